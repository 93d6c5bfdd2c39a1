"""Arrays with one JSON entry of metadata in a safetensors file: prompt sets and random-word networks (no pickle)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import atomic_write, check_safetensors

MAX_BYTES = 64 << 20  # of a file: those of 10,000 concepts have 40 MiB; a live parameter may name it


def save_tensors(path: str | Path, tensors: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
    """Write arrays and their metadata, as a whole or not at all."""
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    with atomic_write(path) as part:
        try:
            # One JSON text: safetensors writes its metadata in no fixed order, one entry keeps the file reproducible.
            save_file(arrays, str(part), metadata={"vl4ad": json.dumps(meta)})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def load_tensors(path: str | Path, format: str, kind: str, command: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read arrays and metadata of a `format`; an error names the `kind` of file and the `command` that makes it."""
    try:
        check_safetensors(path, MAX_BYTES)
        with safe_open(str(path), framework="numpy") as stream:
            entry = (stream.metadata() or {}).get("vl4ad")
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118 - not a dict
        meta = json.loads(entry or "{}")
    except (OSError, SafetensorError, TypeError, ValueError, RecursionError) as error:
        # TypeError: bfloat16, which NumPy lacks
        raise Vl4adError(f"{path}: cannot be read as a {kind} ({error}).") from error
    if not isinstance(meta, dict) or meta.pop("format", None) != format:
        raise Vl4adError(f"{path}: not a {kind} of this version; make one with '{command}'.")
    return tensors, meta
