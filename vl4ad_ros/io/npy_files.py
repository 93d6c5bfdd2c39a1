"""NumPy's files: read without running code from them; one that is damaged or of another kind is one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError


def read_npy(path: str | Path) -> NDArray[Any]:
    """Read the array of an .npy file.

    Raises:
        Vl4adError: If the file cannot be read as one.
    """
    try:
        array = np.load(path, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError("it is an archive of arrays; write one array with numpy.save")
    except Exception as error:  # NumPy and zipfile raise whatever the damage provokes
        raise Vl4adError(f"{path}: cannot be read as an .npy array ({error}).") from error
    return array


def read_npz(path: str | Path, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read the named arrays of an .npz file; others in it are left alone. Without names, read all.

    Raises:
        Vl4adError: If the file cannot be read as one, or lacks an array.
    """
    try:
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            raise ValueError("it is a single array; write named arrays with numpy.savez")
        with stored:
            there = stored.files
            wanted = there if names is None else names
            missing = [name for name in wanted if name not in stored]
            arrays = {} if missing else {name: stored[name] for name in wanted}
    except Exception as error:  # NumPy and zipfile raise whatever the damage provokes
        raise Vl4adError(f"{path}: cannot be read as an .npz file ({error}).") from error
    if missing:
        raise Vl4adError(f"{path}: lacks the arrays {missing}; it has {there}.")
    return arrays
