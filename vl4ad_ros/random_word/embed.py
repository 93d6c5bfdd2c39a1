"""Embedding many prompts: each distinct text once, in batches, with an optional cache on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.errors import Vl4adError
from vl4ad_ros.hashing import sha256_text
from vl4ad_ros.prompts.encoders import TextEncoder

Progress = Callable[[int, int], None]


def embed(
    texts: Sequence[str],
    encoder: TextEncoder,
    cache: Path | None = None,
    batch: int = 256,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Return float32 [len(texts), D], unit rows.

    Args:
        texts: Prompts; repeated ones are embedded once.
        encoder: The text encoder.
        cache: Folder that keeps embeddings by the hash of the texts and the encoder's id; None keeps none.
        batch: Texts per call of the encoder.
        progress: Called with (texts done, texts in all).

    Raises:
        Vl4adError: If the encoder returns something else.
    """
    # Sorted by length: an encoder pads a batch to its longest text.
    distinct = sorted(set(texts), key=lambda text: (len(text), text))
    kept = cache / f"{sha256_text(chr(10).join([encoder.id, *distinct]))}.npy" if cache is not None else None
    if kept is not None and kept.is_file():
        rows = np.load(kept, allow_pickle=False)
    else:
        rows = np.empty((len(distinct), encoder.dim), dtype=np.float32)
        for start in range(0, len(distinct), batch):
            part = distinct[start : start + batch]
            rows[start : start + len(part)] = encoder.encode(part)
            if progress is not None:
                progress(start + len(part), len(distinct))
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, rows)
    if not np.isfinite(rows).all() or not np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3):
        raise Vl4adError(f"The text encoder '{encoder.id}' gave embeddings that are not finite unit vectors.")
    index = {text: row for row, text in enumerate(distinct)}
    return np.asarray(rows[[index[text] for text in texts]], dtype=np.float32)
