"""The graph inputs that carry a prompt set, padded to the sizes that the graph was exported with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vl4ad_ros.io.checked import Checked
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.runtime.scores import DEFAULT_SCORING, METHODS, SCORINGS, check_scoring

LOWEST_TEMPERATURE = 1e-4
"""A hundredth of the least that FC-CLIP can learn (its logit scale ends at 100); far below, 1/T leaves float32."""


class PromptLimits(Checked):
    """Fixed sizes of the prompt inputs of a graph."""

    concepts: int = Field(default=256, ge=1)  # P, rows of `text_embeddings`
    columns: int = Field(default=64, ge=1)  # C, softmax columns
    concepts_per_column: int = Field(default=32, ge=1)  # L, concepts that one column may have


@dataclass(frozen=True, eq=False)
class PromptTensors:
    """One prompt set with one scoring, ready for the graph. Immutable; engines recognise it by identity."""

    text_embeddings: NDArray[np.float32]  # float32 [P, D], unit rows, zero rows behind the last concept
    # int32 [C, L], rows of `text_embeddings` that belong to each column, padded by repeating the first: the maximum
    # over L is then right without a mask.
    class_concepts: NDArray[np.int32]
    # float32 [2, C]. Row 0: 1 where the column takes part in the softmax. Row 1: 1 where it is in-distribution.
    class_mask: NDArray[np.float32]
    settings: NDArray[np.float32]  # float32 [9]: 1/T, one-hot of the scoring, weights of the methods
    prompt_set: CompiledPromptSet  # what the tensors were made from
    scoring: str  # name of the score
    temperature: float  # T in force
    # The further inputs of a graph that has the random-word method, by name; empty for one without.
    random_word: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def graph_inputs(self) -> dict[str, NDArray[np.float32] | NDArray[np.int32]]:
        """Return the tensors by the names of the graph's inputs."""
        return {
            "text_embeddings": self.text_embeddings,
            "class_concepts": self.class_concepts,
            "class_mask": self.class_mask,
            "settings": self.settings,
            **self.random_word,
        }


def pack(
    prompt_set: CompiledPromptSet,
    limits: PromptLimits,
    default_temperature: float,
    scoring: str = DEFAULT_SCORING,
    temperature: float | None = None,
    method: str = "vl4ad",
    random_word: Mapping[str, NDArray[np.float32]] | None = None,
    scorings: Sequence[str] = SCORINGS,
) -> PromptTensors:
    """Pad a compiled prompt set to a graph's sizes; for a bundle's graph `BundleCard.pack` knows them.

    `default_temperature` is the model's own, `temperature` overrides it and the set's; `random_word` has the network's
    inputs, for a graph that has the method; `scorings` are the scores in the graph.
    """
    check_scoring(scoring, scorings)
    if method not in (*METHODS, "both"):
        raise Vl4adError(f"Unknown method: expected one of {[*METHODS, 'both']}, got '{method}'.")
    in_force = temperature or prompt_set.temperature or default_temperature
    if not (np.isfinite(in_force) and in_force >= LOWEST_TEMPERATURE):
        raise Vl4adError(f"The temperature must be a finite number >= {LOWEST_TEMPERATURE}, got {in_force}.")
    rows = [np.flatnonzero(prompt_set.concept_column == column) for column in range(len(prompt_set.columns))]
    sizes = (
        ("concepts", len(prompt_set.concepts), limits.concepts),
        ("columns", len(rows), limits.columns),
        ("concepts in one class", max(len(r) for r in rows), limits.concepts_per_column),
    )
    for what, size, limit in sizes:
        if size > limit:
            raise Vl4adError(f"Prompt set '{prompt_set.name}' has {size} {what}, but the model takes at most {limit}.")
    text = np.zeros((limits.concepts, prompt_set.dim), dtype=np.float32)
    text[: len(prompt_set.concepts)] = prompt_set.embeddings
    table = np.zeros((limits.columns, limits.concepts_per_column), dtype=np.int32)
    for column, members in enumerate(rows):
        table[column] = members[0]
        table[column, : len(members)] = members
    mask = np.zeros((2, limits.columns), dtype=np.float32)
    mask[0, : len(rows)] = 1
    mask[1, : prompt_set.num_id] = 1
    methods = [0.5 if method == "both" else float(method == name) for name in METHODS]
    settings = np.array([1 / in_force, *(scoring == name for name in scorings), *methods], dtype=np.float32)
    for array in (text, table, mask, settings):
        array.setflags(write=False)
    return PromptTensors(text, table, mask, settings, prompt_set, scoring, float(in_force), random_word or {})
