"""The learner of a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import torch

from vl4ad_ros.training.config import TrainConfig
from vl4ad_ros.training.data import RunData
from vl4ad_ros.training.dense_learner import DenseLearner
from vl4ad_ros.training.text import TextTable

if TYPE_CHECKING:
    from vl4ad_ros.training.mask_learner import MaskLearner

Learner: TypeAlias = "DenseLearner | MaskLearner"


def make_learner(config: TrainConfig, data: RunData, text: TextTable, pretrained: bool = True) -> Learner:
    """A learner with start weights that follow from the seed; one for a checkpoint needs no `pretrained`."""
    torch.manual_seed(config.seed)
    if config.model.network == "small":
        return DenseLearner(config, data, text, pretrained)
    # Here, since transformers takes seconds to load.
    from vl4ad_ros.training.mask_learner import MaskLearner

    return MaskLearner(config, data, text, pretrained)
