"""What a step minimises, for each kind of learner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vl4ad_ros.training.config import TrainConfig
from vl4ad_ros.training.data import RunData
from vl4ad_ros.training.learner import DenseLearner
from vl4ad_ros.training.losses import Term, name_term, pixel_terms
from vl4ad_ros.training.mask_learner import MaskLearner, check_single_classes, make_criterion, mask_terms
from vl4ad_ros.training.stream import Sample
from vl4ad_ros.training.text import TextTable

Terms = dict[str, tuple[float, Term]]
Learner = DenseLearner | MaskLearner


def make_learner(config: TrainConfig, text: TextTable, classes: tuple[str, ...], pretrained: bool = True) -> Learner:
    """A learner with start weights that follow from the seed.

    Args:
        config: the run.
        text: frozen texts.
        classes: the vocabulary's class names.
        pretrained: False skips the pretrained weights, for a checkpoint that is about to be loaded.
    """
    from vl4ad_ros.training.learner import make_dense_learner

    model = (
        config.model if pretrained else config.model.model_copy(update={"encoder_weights": "random", "backbone": None})
    )
    if model.network == "small":
        return make_dense_learner(model, text, config.seed)
    torch.manual_seed(config.seed)
    return MaskLearner(model, text, classes)


def row_weights(data: RunData, power: float) -> Tensor:
    """Weight of each row of the label table: (1 / share of pixels) ** power, mean 1 over pixels; void weighs 1."""
    counts = np.zeros(256, np.float64)
    for frames in data.maker.sets:
        total = np.zeros(256, np.float64)
        for rows in frames.rows:
            total += np.bincount(rows[::4, ::4].reshape(-1), minlength=256)
        counts += total / max(1.0, total[: data.table.void].sum())
    share = counts[: data.table.void] / counts[: data.table.void].sum()
    seen = share > 0
    weight = np.ones(data.table.void + 1)
    weight[:-1][seen] = share[seen] ** -power
    weight[:-1][seen] /= (weight[:-1][seen] * share[seen]).sum()
    weight[:-1] = weight[:-1].clip(0.2, 6.0)
    return torch.from_numpy(weight).float()


def _full(value: Tensor) -> Tensor:
    """Out of half precision, for sums over many pixels."""
    return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value


@dataclass
class DenseObjective:
    """Classes and void per pixel, uniformity on objects, objects by name."""

    config: TrainConfig
    data: RunData
    text: TextTable

    def __post_init__(self) -> None:
        self._members = torch.from_numpy(self.data.table.rows)
        self._row_weight = row_weights(self.data, self.config.losses.row_power)
        self._allowed = torch.zeros(len(self.data.names), dtype=torch.bool)
        self._allowed[list(self.data.train_names)] = True

    def terms(self, learner: nn.Module, sample: Sample, class_concepts: Tensor) -> Terms:
        """The loss terms of a batch on the learner's device."""
        assert isinstance(learner, DenseLearner)
        image, rows, pixel_weights, names = sample
        weights, members = self.config.losses, self._members.to(image.device)
        tensor = image.to(learner.void.dtype).contiguous(memory_format=torch.channels_last)
        embedding, logits = learner(tensor, class_concepts.to(image.device))
        embedding, logits = _full(embedding), _full(logits)
        opened, closed = pixel_terms(logits, rows, pixel_weights, members, self._row_weight.to(image.device))
        terms: Terms = {"classes": (weights.classes, opened), "closed": (weights.closed, closed)}
        if weights.names > 0 and len(self.text.names) and learner.class_vectors is None:
            allowed = self._allowed.to(image.device)
            term = name_term(learner, embedding, logits, rows, names, members, allowed)
            terms["names"] = (weights.names, term)
        return terms


@dataclass
class MaskObjective:
    """Mask2Former's losses after Hungarian matching, on every decoder layer."""

    config: TrainConfig
    data: RunData
    text: TextTable

    def __post_init__(self) -> None:
        check_single_classes(self.data.table)
        self._criterion = make_criterion(self.config.mask_losses, len(self.data.table.classes))

    def terms(self, learner: nn.Module, sample: Sample, class_concepts: Tensor) -> Terms:
        """The loss terms of a batch on the learner's device."""
        assert isinstance(learner, MaskLearner)
        image, rows = sample[:2]
        criterion = self._criterion.to(image.device)
        return mask_terms(
            learner, criterion, self.config.mask_losses, image, rows, self.data.table, class_concepts.to(image.device)
        )


def make_objective(config: TrainConfig, data: RunData, text: TextTable) -> DenseObjective | MaskObjective:
    """The objective of the configured network."""
    return (DenseObjective if config.model.network == "small" else MaskObjective)(config, data, text)
