"""Embedding many prompts: each distinct text once, in batches, with an optional cache on disk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.hashing import sha256_file, sha256_text
from vl4ad_ros.io.npy_files import read_npy
from vl4ad_ros.prompts.encoders import TextEncoder

Progress = Callable[[int, int], None]


def cache_folder(folder: Path | None, weights: Path | None) -> Path | None:
    """Return the folder, below that of a cache, for the embeddings of one weights file.

    An encoder's id does not tell two weights files of one model apart; the hash of the file does.

    Args:
        folder: The cache's folder; None keeps nothing.
        weights: The weights file given to the encoder; None where the encoder's id names its weights.

    Raises:
        Vl4adError: If the file cannot be read.
    """
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
    """Return float32 [len(texts), D], unit rows.

    Args:
        texts: Prompts; repeated ones are embedded once.
        encoder: The text encoder.
        cache: Folder that keeps embeddings by the hash of the texts and the encoder's id, see `cache_folder`; None
            keeps none. A damaged file there is made anew.
        batch: Texts per call of the encoder.
        progress: Called with (texts done, texts in all).

    Raises:
        Vl4adError: If the encoder returns something else, or the cache cannot be written.
    """
    # Sorted by length: an encoder pads a batch to its longest text.
    distinct = sorted(set(texts), key=lambda text: (len(text), text))
    kept = cache / f"{sha256_text(chr(10).join([encoder.id, *distinct]))}.npy" if cache is not None else None
    if kept is not None:
        try:  # Before the work: it would be lost.
            kept.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Vl4adError(f"{kept.parent}: embeddings cannot be kept there ({error}).") from error
    rows = _read(kept, (len(distinct), encoder.dim))
    if rows is None:
        rows = np.empty((len(distinct), encoder.dim), dtype=np.float32)
        for start in range(0, len(distinct), batch):
            part = distinct[start : start + batch]
            rows[start : start + len(part)] = encoder.encode(part)
            if progress is not None:
                progress(start + len(part), len(distinct))
        if not _are_unit(rows):
            raise Vl4adError(f"The text encoder '{encoder.id}' gave embeddings that are not finite unit vectors.")
        if kept is not None:
            _write(kept, rows)
    index = {text: row for row, text in enumerate(distinct)}
    return np.asarray(rows[[index[text] for text in texts]], dtype=np.float32)


def _are_unit(rows: NDArray[np.float32]) -> bool:
    return bool(np.isfinite(rows).all() and np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3))


def _read(path: Path | None, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    """Return what a cache's file holds; None where there is none or it is damaged."""
    if path is None or not path.is_file():
        return None
    try:
        rows = read_npy(path)
    except Vl4adError:
        return None
    return rows if rows.shape == shape and rows.dtype == np.float32 and _are_unit(rows) else None


def _write(path: Path, rows: NDArray[np.float32]) -> None:
    """Write a cache's file as a whole or not at all; two runs at once do not share their part files."""
    part = path.with_name(f".{path.stem}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            np.save(stream, rows)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise Vl4adError(f"{path}: embeddings cannot be kept there ({error}).") from error
