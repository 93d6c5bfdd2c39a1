"""The small dense network under training: classes and void per pixel, uniformity on objects, objects by name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vl4ad_ros.network.lite_encoder import PIXEL_MEAN, PIXEL_STD, load_encoder_weights
from vl4ad_ros.network.small import SmallDetector, SmallNetwork
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.training.config import TrainConfig
from vl4ad_ros.training.data import RunData
from vl4ad_ros.training.label_tables import IGNORE
from vl4ad_ros.training.learner import Term, Terms, TextTable, encoder_weights_file, twin_prompts
from vl4ad_ros.training.stream import Sample

LOWEST_TEMPERATURE = 0.01
"""FC-CLIP clamps the logit scale at 100, too."""

ID_PIXELS_FOR_NAMES = 256
"""In-distribution pixels of a picture that take part in the names' loss, as things that have none of the names."""

MASKED = -1e4
"""Logit of what is left out of a softmax."""


class DenseLearner(nn.Module):
    """A dense network with its classifier; `head: linear` learns the vectors of classes and names."""

    def __init__(self, config: TrainConfig, data: RunData, text: TextTable, pretrained: bool = True) -> None:
        model, dim = config.model, text.concepts.shape[1]
        super().__init__()
        self.text, self.linear, self.weights = text, model.head == "linear", config.losses
        self.network = SmallNetwork(dim, model.embed_dim, model.width)
        self.network.encoder.freeze(model.freeze_stages)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / model.temperature)))
        self.void = nn.Parameter(torch.randn(dim) / dim**0.5)
        self.class_vectors = nn.Parameter(torch.randn(len(text.columns), dim) / dim**0.5) if self.linear else None
        self.name_vectors = nn.Parameter(torch.randn(text.names.shape) / dim**0.5) if self.linear else None
        trained_names = torch.zeros(len(data.names), dtype=torch.bool)
        trained_names[list(data.train_names)] = True
        for name, value in {
            "concepts": text.concepts,
            "names": text.names,
            "trained_names": trained_names,
            "members": torch.from_numpy(data.table.rows),
            "row_weight": row_weights(data, config.losses.row_power),
        }.items():
            self.register_buffer(name, value, persistent=False)
        if pretrained and model.encoder_weights == "imagenet":
            load_encoder_weights(self.network.encoder, encoder_weights_file())

    concepts: Tensor
    names: Tensor
    trained_names: Tensor
    members: Tensor
    row_weight: Tensor

    @property
    def temperature(self) -> float:
        """The learned T."""
        return 1.0 / float(self.scale().detach())

    def scale(self) -> Tensor:
        """1/T."""
        return self.log_scale.exp().clamp(max=1 / LOWEST_TEMPERATURE)

    def forward(self, image: Tensor, class_concepts: Tensor) -> tuple[Tensor, Tensor]:
        """The map e [B,h,w,d] of RGB [B,3,H,W], 0 to 255, and logits [B,h,w,K+1], void last."""
        embedding = self.network(image).permute(0, 2, 3, 1)
        void = F.normalize(self.void, dim=0)[None]
        if self.class_vectors is not None:
            vectors = torch.cat([F.normalize(self.class_vectors, dim=1), void])
            return embedding, self.network.cosines(embedding, vectors) * self.scale()
        cosines = self.network.cosines(embedding, torch.cat([self.concepts, void]))
        classes = cosines[..., class_concepts.reshape(-1)].unflatten(-1, tuple(class_concepts.shape)).amax(-1)
        return embedding, torch.cat([classes, cosines[..., -1:]], dim=-1) * self.scale()

    def dense_logits(self, image: Tensor, class_concepts: Tensor) -> Tensor:
        """Logits of the classes and, last, of what is none of them: RGB [B,3,H,W], 0 to 255 -> [B,K+1,H/8,W/8]."""
        logits: Tensor = self(image, class_concepts)[1]
        return logits.permute(0, 3, 1, 2)

    def name_logits(self, embedding: Tensor) -> Tensor:
        """Logits of all names: e [M,d] -> [M,N]."""
        names = self.names if self.name_vectors is None else F.normalize(self.name_vectors, dim=1)
        return self.network.cosines(embedding, names) * self.scale()

    def terms(self, sample: Sample, class_concepts: Tensor) -> Terms:
        """The loss terms of a batch on the learner's device; `class_concepts` is int64 [K,L]."""
        image, rows, pixel_weights, names = sample
        tensor = image.to(self.void.dtype).contiguous(memory_format=torch.channels_last)
        # Out of half precision, for sums over many pixels.
        embedding, logits = (
            value.float() if value.dtype == torch.bfloat16 else value for value in self(tensor, class_concepts)
        )
        opened, closed = pixel_terms(logits, rows, pixel_weights, self.members, self.row_weight)
        terms: Terms = {"classes": (self.weights.classes, opened), "closed": (self.weights.closed, closed)}
        if self.weights.names > 0 and len(self.names):
            terms["names"] = (self.weights.names, self.name_term(embedding, logits, rows, names))
        return terms

    def name_term(self, embedding: Tensor, logits: Tensor, rows: Tensor, names: Tensor) -> Term:
        """Objects by name, among all trained names and all classes; known pixels take part with their classes.

        The map is [B,h,w,d], the logits [B,h,w,K+1], rows uint8 [B,2h,2w], names int16 [B,h,w], -1: none.
        """
        own = names >= 0
        row = rows[:, ::2, ::2].long()
        known = (row < len(self.members) - 1) & ~own
        # An even grid of in-distribution pixels: cheap, and the same on every resume.
        count = max(1, int(known.sum()) // (ID_PIXELS_FOR_NAMES * len(rows)))
        named, grid = torch.nonzero(own.flatten()).flatten(), torch.nonzero(known.flatten()).flatten()[::count]
        chosen = torch.cat([named, grid])
        name_logits = self.name_logits(embedding.flatten(0, 2)[chosen]).masked_fill(~self.trained_names, MASKED)
        joint = torch.cat([logits.flatten(0, 2)[chosen][:, :-1], name_logits], dim=1).log_softmax(1)
        targets = torch.zeros_like(joint, dtype=torch.bool)
        classes = self.members.shape[1]
        targets[torch.arange(len(named)), classes + names.flatten()[named].long()] = True
        targets[len(named) :, :classes] = self.members[row.flatten()[grid]]
        loss = -union_log_probability(joint, targets)
        return Term(loss.sum(), loss.new_tensor(float(len(chosen))))

    def graph(self) -> nn.Module:
        """The network with the graph contract, in evaluation mode."""
        return SmallDetector(self.network, self.void).eval()

    def card_fields(self) -> dict[str, Any]:
        """What the bundle's card says of the network."""
        return {
            "input": {"resize": "keep_aspect", "mean": (PIXEL_MEAN,) * 3, "std": (PIXEL_STD,) * 3},
            "embedding_dim": self.network.text_dim,
            "methods": ["vl4ad", "random_word"],
        }

    def prompts(self, name: str = "classes") -> CompiledPromptSet:
        """The prompt set that scores the learner: the texts' default, or a twin's class vectors under a name."""
        if self.class_vectors is None:
            return self.text.prompts
        return twin_prompts(self.text, F.normalize(self.class_vectors, dim=1), f"linear:{name}", name)


def union_log_probability(log_probability: Tensor, members: Tensor) -> Tensor:
    """Log [M] of the summed probability of the member columns: [M,C] and bool [M,C], at least one true in a row."""
    return torch.logsumexp(log_probability.masked_fill(~members, MASKED), dim=1)


def pixel_terms(
    logits: Tensor, rows: Tensor, weights: Tensor, members: Tensor, row_weight: Tensor
) -> tuple[Term, Term]:
    """The loss with the void column, and the loss of the classes alone.

    A pixel whose label stands for several classes is right where their summed probability is 1. An object is right,
    with void, where void is 1; among the classes alone, where no class is more likely than another. Logits are
    [B,h,w,K+1], void last; rows uint8 [B,2h,2w] of the label table, 255 ignored; `members` bool [R,K], the last row
    void, all false.
    """
    size = (rows.shape[1], rows.shape[2])
    resized = F.interpolate(logits.permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=False)
    valid = rows != IGNORE
    flat, row = resized.permute(0, 2, 3, 1)[valid], rows[valid].long()
    weight = row_weight[row] * weights[valid]
    is_void = row == len(members) - 1
    with_void = F.pad(members, (0, 1))
    with_void[-1, -1] = True
    opened = -union_log_probability(flat.log_softmax(1), with_void[row])
    closed_log = flat[:, :-1].log_softmax(1)
    inside = members[row] | is_void[:, None]
    closed = torch.where(is_void, -closed_log.mean(1), -union_log_probability(closed_log, inside))
    return Term((weight * opened).sum(), weight.sum()), Term((weight * closed).sum(), weight.sum())


def row_weights(data: RunData, power: float) -> Tensor:
    """Weight of each row of the label table: (1 / share of pixels) ** power, mean 1 over pixels; void weighs 1."""
    share = np.zeros(data.table.void)
    for frames in data.samples.sets:
        counts = sum(np.bincount(rows[::4, ::4].reshape(-1), minlength=256) for rows in frames.rows)
        known = np.asarray(counts)[: data.table.void]
        share += known / max(1, known.sum())
    share /= share.sum()
    weight = np.ones(data.table.void + 1)
    seen = np.flatnonzero(share)
    weight[seen] = share[seen] ** -power
    weight[seen] /= (weight[seen] * share[seen]).sum()
    weight[:-1] = weight[:-1].clip(0.2, 6.0)
    return torch.from_numpy(weight).float()
