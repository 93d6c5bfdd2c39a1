"""The frozen text side of a run: the vocabulary's concepts and the objects' names, as unit rows of the text space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vl4ad_ros.prompts.compile import compile_prompt_set, embed_concepts
from vl4ad_ros.prompts.encoders import TextEncoder
from vl4ad_ros.prompts.schema import PromptSet
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.runtime.prompt_tensors import PromptLimits

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
