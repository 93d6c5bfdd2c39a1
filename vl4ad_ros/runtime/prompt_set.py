"""Compiled prompt sets: embeddings and their meaning in one immutable object, stored as safetensors (no pickle)."""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import sha256_text
from vl4ad_ros.runtime.tensor_files import load_tensors, save_tensors

FORMAT = "vl4ad_ros.prompt_set/1"
_KEYS_IN_THE_FILE = {"encoder_id": "text_encoder", "source_sha256": "sha256"}
_TENSORS = ("embeddings", "concept_column")


@dataclass(frozen=True, eq=False, config=ConfigDict(arbitrary_types_allowed=True))
class CompiledPromptSet:
    """A prompt set, embedded for one text encoder."""

    name: str
    description: str
    # Names of the softmax columns: the K in-distribution (super)classes, then the Q OOD concepts.
    columns: tuple[str, ...]
    # For each column, the classes that were merged into it (an OOD column: itself).
    members: tuple[tuple[str, ...], ...]
    concepts: tuple[str, ...]  # P concept texts
    concept_column: NDArray[np.int32]  # int32 [P], the column of each concept
    embeddings: NDArray[np.float32]  # float32 [P, D], unit rows, read-only
    num_id: int  # K, the number of in-distribution columns, >= 1
    temperature: float | None  # T of Eq. 1, or None for the model's own.
    encoder_id: str  # the text encoder that made the embeddings
    source_sha256: str  # SHA-256 of the YAML file; where templates were put in place of its own, of both
    # SHA-256 of the file that the user gave for the embeddings: the text encoder's weights, or the embeddings
    # themselves. None where the encoder brought its own weights.
    file_sha256: str | None = None
    # The sentences around each concept that the embeddings are averaged over; None in sets of earlier versions.
    templates: tuple[str, ...] | None = None
    # Of the anomaly mask with this set, by method and score (`bundle.threshold_key`), and the SHA-256 of the graph that
    # they were measured with; with others they do not count.
    thresholds: dict[str, float] | None = None
    thresholds_graph: str | None = None

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise Vl4adError(f"Prompt set '{self.name}' is damaged: {problem}.")
        self.embeddings.setflags(write=False)
        self.concept_column.setflags(write=False)

    def _problem(self) -> str | None:
        """Return what is inconsistent, or None."""
        count = len(self.concepts)
        if self.embeddings.ndim != 2 or self.embeddings.dtype != np.float32 or len(self.embeddings) != count:
            return f"embeddings are {self.embeddings.dtype} {self.embeddings.shape} for {count} concepts"
        if not np.allclose(np.linalg.norm(self.embeddings, axis=1), 1.0, atol=1e-3):
            return "embeddings are not of unit length"
        if self.concept_column.shape != (count,) or set(self.concept_column.tolist()) != set(range(len(self.columns))):
            return "the concepts do not cover the columns"
        if not 1 <= self.num_id <= len(self.columns) or len(self.members) != len(self.columns):
            return f"K={self.num_id} of {len(self.columns)} columns"
        if self.temperature is not None and not self.temperature > 0:
            return f"temperature {self.temperature}"
        return None

    @property
    def num_ood(self) -> int:
        """Q, the number of out-of-distribution columns."""
        return len(self.columns) - self.num_id

    @property
    def dim(self) -> int:
        """D, the length of an embedding."""
        return int(self.embeddings.shape[1])

    @cached_property
    def version(self) -> str:
        """A short hash of the YAML, the encoder and the embeddings: equal exactly where the set acts alike."""
        content = self.embeddings.astype("<f4").tobytes().hex()
        return sha256_text(f"{self.source_sha256}|{self.encoder_id}|{self.temperature}|{content}")[:12]

    def summary(self) -> dict[str, object]:
        """Return what identifies the set, as plain data for JSON."""
        return {
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "classes": list(self.columns[: self.num_id]),
            "ood": list(self.columns[self.num_id :]),
            "num_concepts": len(self.concepts),
            "temperature": self.temperature,
            "text_encoder": self.encoder_id,
            "sha256": self.source_sha256,
        }

    def save(self, path: str | Path) -> None:
        """Write the set as safetensors, the meaning in its metadata."""
        names = [field.name for field in fields(self) if field.name not in _TENSORS]
        meta = {"format": FORMAT} | {_KEYS_IN_THE_FILE.get(name, name): getattr(self, name) for name in names}
        for name in ("file_sha256", "templates", "thresholds", "thresholds_graph"):
            if meta[name] is None:  # the same bytes as from versions that did not record it
                del meta[name]
        save_tensors(path, {name: getattr(self, name) for name in _TENSORS}, meta)


def load_compiled(path: str | Path) -> CompiledPromptSet:
    """Read a compiled prompt set."""
    tensors, meta = load_tensors(path, FORMAT, "compiled prompt set", "vl4ad prompts compile")
    for name, key in _KEYS_IN_THE_FILE.items():
        meta[name] = meta.pop(key, None)
    try:
        return CompiledPromptSet(**tensors, **meta)
    except (TypeError, ValueError) as error:
        raise Vl4adError(f"{path}: damaged compiled prompt set ({' '.join(str(error).split())}).") from error
