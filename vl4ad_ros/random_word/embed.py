"""Embeddings of many prompts: each distinct text once, in batches, with an optional cache on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import atomic_write, check_writable, read_npy, sha256_file, sha256_text
from vl4ad_ros.prompts.encoders import Progress, TextEncoder, encode_batches


def cache_folder(folder: Path | None, weights: Path | None) -> Path | None:
    """Return a cache's folder for one weights file: two files of one model have the same encoder id."""
    if folder is None or weights is None:
        return folder
    try:
        return folder / sha256_file(weights)
    except OSError as error:
        raise Vl4adError(f"{weights}: cannot be read ({error}).") from error


def embed(
    texts: Sequence[str],
    encoder: TextEncoder,
    cache: Path | None = None,
    batch: int = 256,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Return float32 [len(texts), D], unit rows; repeated texts are embedded once, `batch` of them at a time.

    `cache` keeps them by the hash of the texts and the encoder's id; a damaged file there is made anew.
    """
    # Sorted by length: an encoder pads a batch to its longest text.
    distinct = sorted(set(texts), key=lambda text: (len(text), text))
    kept = cache / f"{sha256_text(chr(10).join([encoder.id, *distinct]))}.npy" if cache is not None else None
    rows = None if kept is None else _read(kept)
    if rows is None or not _are_unit(rows, (len(distinct), encoder.dim)):
        if kept is not None:
            check_writable(kept)
        rows = encode_batches(encoder, distinct, batch, progress)
        if not _are_unit(rows, (len(distinct), encoder.dim)):
            raise Vl4adError(f"The text encoder '{encoder.id}' gave embeddings that are not finite unit vectors.")
        if kept is not None:
            with atomic_write(kept) as part, part.open("wb") as stream:
                np.save(stream, rows)
    index = {text: row for row, text in enumerate(distinct)}
    return np.asarray(rows[[index[text] for text in texts]], dtype=np.float32)


def _are_unit(rows: NDArray[np.float32], shape: tuple[int, int]) -> bool:
    return rows.shape == shape and np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)


def _read(path: Path) -> NDArray[np.float32] | None:
    """Return the embeddings in a cache's file; None where it is missing or damaged."""
    try:
        rows = read_npy(path) if path.is_file() else None
    except Vl4adError:
        return None
    return rows if rows is not None and rows.dtype == np.float32 else None
