"""The mask network under training: a frozen image tower, a trained head, Hungarian matching (Mask2Former's losses)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.backbone import LITE, ClipBackbone, LiteBackbone
from vl4ad_ros.network.checkpoint import CONFIG as NETWORK_CONFIG
from vl4ad_ros.network.checkpoint import load_config as load_network_config
from vl4ad_ros.network.checkpoint import load_network
from vl4ad_ros.network.config import NetworkConfig
from vl4ad_ros.network.lite_encoder import load_encoder_weights
from vl4ad_ros.network.model import VL4ADNetwork
from vl4ad_ros.prompts.encoders import class_encoder_id
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.training.config import Model, TrainConfig
from vl4ad_ros.training.data import RunData
from vl4ad_ros.training.label_tables import IGNORE, LabelTable
from vl4ad_ros.training.learner import Term, Terms, TextTable, encoder_weights_file, twin_prompts
from vl4ad_ros.training.stream import Sample

UNCLAIMED = -20.0
"""Mask logit that stands at pixels without a label: whatever is sampled there costs nothing and has no gradient."""

MIN_PROBABILITY = 1e-6
"""Probabilities are kept above this before their logarithm is taken."""


class MaskLearner(nn.Module):
    """A mask network with its classifier; only the head is trained."""

    concepts: Tensor

    def __init__(self, config: TrainConfig, data: RunData, text: TextTable, pretrained: bool = True) -> None:
        model, classes = config.model, data.table.classes
        super().__init__()
        check_single_classes(data.table)
        self.text, self.linear = text, model.head == "linear"
        self.table, self.weights = data.table, config.mask_losses
        # An imported network's ensemble goes by the classes that it was trained with before.
        sizes = network_sizes(model, text.concepts.shape[1]).model_copy(update={"ensemble": None})
        if self.linear:
            sizes = sizes.model_copy(update={"head": sizes.head.model_copy(update={"classes": classes})})
        stored = is_stored(model)
        self.network = load_network(model.network) if stored and not self.linear else VL4ADNetwork(sizes)
        self.network.ensemble, self.network.config = None, sizes
        tower = self.network.backbone
        if pretrained and isinstance(tower, LiteBackbone) and not stored and model.encoder_weights == "imagenet":
            load_encoder_weights(tower.encoder, encoder_weights_file())
        if pretrained and model.backbone is not None and isinstance(tower, ClipBackbone):
            load_tower(tower, model.backbone)
        # The vision-only twin's "text" is the identity: one row per class.
        self.register_buffer("concepts", torch.eye(len(classes)) if self.linear else text.concepts, persistent=False)
        # Mask2Former's loss with matching; the weights also weigh the matching costs.
        settings = Mask2FormerConfig(
            num_labels=len(classes),
            class_weight=self.weights.classes,
            mask_weight=self.weights.mask,
            dice_weight=self.weights.dice,
            no_object_weight=self.weights.no_object,
            train_num_points=self.weights.points,
        )
        # In a list, so that its buffers are no part of the learner's state.
        self._criterion = [Mask2FormerLoss(settings, {})]

    @property
    def temperature(self) -> float:
        """The learned T."""
        return self.network.temperature

    def forward(self, image: Tensor, class_concepts: Tensor, auxiliary: bool = False) -> list[tuple[Tensor, Tensor]]:
        """Mask logits and class logits (void last) of the last layer, with `auxiliary` of all layers in order.

        The image is RGB [B,3,H,W], 0 to 255, the concepts int64 [K,L]; pairs of [B,N,H/4,W/4] and [B,N,K+1].
        """
        table = torch.arange(len(self.concepts), device=image.device)[:, None] if self.linear else class_concepts
        predictions = self.network.head(self.network.features(image.permute(0, 2, 3, 1)), auxiliary)
        return [(p.mask_logits, self.network.head.class_logits(p, self.concepts, table)) for p in predictions]

    def dense_logits(self, image: Tensor, class_concepts: Tensor) -> Tensor:
        """Return log S of each class, and of what no class claims: [B,K+1,H/4,W/4]."""
        masks, logits = self(image, class_concepts)[-1]
        support = torch.einsum("bnk,bnhw->bkhw", logits.softmax(-1)[..., :-1], masks.sigmoid())
        rest = 1 - support.amax(1, keepdim=True)
        return torch.cat([support, rest], dim=1).clamp(min=MIN_PROBABILITY).log()

    def terms(self, sample: Sample, class_concepts: Tensor) -> Terms:
        """Sums over decoder layers; each process's mean counts by its number of pictures.

        Pixels without a label, a sample's mirrored border among them, take no part in the matching or in the masks.
        """
        image, rows = sample[:2]
        ignored = (rows == IGNORE)[:, None]
        predictions = [
            (masks.float().masked_fill(ignored, UNCLAIMED), logits.float())
            for masks, logits in self(image, class_concepts, auxiliary=True)
        ]
        masks, classes = segments(rows, self.table)
        earlier = [{"masks_queries_logits": m, "class_queries_logits": c} for m, c in predictions[:-1]]
        last_masks, last_classes = predictions[-1]
        losses = self._criterion[0].to(image.device)(last_masks, last_classes, masks, classes, earlier)
        weights = {"cross_entropy": self.weights.classes, "mask": self.weights.mask, "dice": self.weights.dice}
        count = torch.tensor(float(len(image)), device=image.device)
        terms: Terms = {}
        for name, weight in weights.items():
            total = torch.stack([value for key, value in losses.items() if key.startswith(f"loss_{name}")]).sum()
            terms[name] = (weight, Term(total * count, count))
        if self.weights.outlier:
            outlier = outlier_term(last_masks, last_classes, rows == self.table.void, self.weights.margin)
            terms["outlier"] = (self.weights.outlier, outlier)
        return terms

    def graph(self) -> nn.Module:
        """The network with the graph contract, in evaluation mode."""
        return self.network.eval()

    def card_fields(self) -> dict[str, Any]:
        """What the bundle's card says of the network."""
        sizes = self.network.config
        return {
            # Stretched: the positions of its decoders are computed at export.
            "input": {"resize": "stretch", "mean": sizes.mean, "std": sizes.std},
            "embedding_dim": sizes.head.text_dim,
            "num_queries": sizes.head.num_queries,
            "methods": ["vl4ad"] if self.linear else ["vl4ad", "random_word"],
        }

    def prompts(self, name: str = "classes") -> CompiledPromptSet:
        """The prompt set that scores the learner: the texts' default, or the classes under a name."""
        if not self.linear:
            return self.text.prompts
        return twin_prompts(self.text, self.concepts, class_encoder_id(self.text.columns), name)


def is_stored(model: Model) -> bool:
    """Whether the network is a folder with weights, not a preset."""
    return (Path(model.network) / NETWORK_CONFIG).is_file()


def network_sizes(model: Model, text_dim: int) -> NetworkConfig:
    """The sizes of the network that the settings name, which is then sure to fit the text and the backbone's file."""
    config = load_network_config(model.network)
    if model.head == "text" and config.head.embedding_dim != text_dim:
        raise Vl4adError(
            f"The network '{model.network}' has embeddings of {config.head.embedding_dim} numbers, the text "
            f"encoder {text_dim}; set text_encoder to '{config.text_encoder}'."
        )
    if config.backbone == LITE:
        if model.backbone is not None:
            raise Vl4adError("model.backbone: only CLIP's towers take an open_clip checkpoint; leave it out")
        if model.encoder_weights == "imagenet" and not is_stored(model):
            encoder_weights_file()
    elif model.backbone is not None and not model.backbone.is_file():
        raise Vl4adError(f"model.backbone: there is no file {model.backbone}")
    return config


def load_tower(backbone: ClipBackbone, file: Path) -> None:
    """Load the image tower from an open_clip checkpoint: `.safetensors`, or a state dict that needs no code to load."""
    if file.suffix == ".safetensors":
        state = load_file(str(file))
    else:
        state = torch.load(file, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
    tower = {key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.")}
    missing = backbone.visual.load_state_dict(tower, strict=False).missing_keys
    if missing:
        raise Vl4adError(f"{file} lacks {len(missing)} weights of the image tower, the first is '{missing[0]}'")
    if "logit_scale" in state:
        backbone.logit_scale.copy_(state["logit_scale"])


def segments(rows: Tensor, table: LabelTable) -> tuple[list[Tensor], list[Tensor]]:
    """Turn row maps uint8 [B,h,w] into one mask per class that is there: per picture float [n,h,w] and int64 [n]."""
    class_of = torch.from_numpy(table.rows.argmax(1)).to(rows.device)
    present = [[row for row in row_map.unique().tolist() if row not in (IGNORE, table.void)] for row_map in rows]
    masks = [
        (row_map == torch.tensor(own, device=rows.device)[:, None, None]).float()
        for row_map, own in zip(rows, present, strict=True)
    ]
    return masks, [class_of[own] for own in present]


def outlier_term(mask_logits: Tensor, class_logits: Tensor, outside: Tensor, margin: float) -> Term:
    """RbA's squared hinge: no class may claim pixels `outside`; logits [B,N,h,w] and [B,N,K+1], void last."""
    support = torch.einsum("bnk,bnhw->bhwk", class_logits.softmax(-1)[..., :-1], mask_logits.sigmoid())
    rejected = -support[outside].tanh().sum(-1)
    return Term((margin - rejected).clamp(min=0).square().sum(), outside.sum().float())


def check_single_classes(table: LabelTable) -> None:
    """Refuse label tables whose labels stand for several classes: a matched query needs one class."""
    for row in table.rows:
        if row.sum() > 1:
            members = ", ".join(np.array(table.classes)[row])
            raise Vl4adError(
                f"A label stands for several classes ({members}), which mask networks cannot learn from: "
                "give the vocabulary one class for it, or train the network 'small'."
            )
