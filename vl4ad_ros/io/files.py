"""Files: written whole or not at all, read without running code from them, identified by their hash."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError

MAX_SAFETENSORS_HEADER = 16 << 20  # bytes; a network of 1,000 tensors has 0.1 MB


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give an empty file `*.part` in the same folder, which takes the file's name when the block ends without an error.

    A block that fails or is killed leaves the old file as it was. The folder is made, and tried, before the block runs.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.part")
    try:
        if path.is_dir():
            raise Vl4adError(f"{path} is a folder; name a file.")
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        mode = part.stat().st_mode
        yield part
        part.chmod(mode)  # safetensors makes files that nobody else can read
        part.replace(path)
    except OSError as error:
        raise Vl4adError(f"{path}: cannot be written ({error}).") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Check that a file can be written, before the work that it shall keep; an existing file stays as it is."""
    with contextlib.suppress(_Untouched), atomic_write(path):
        raise _Untouched


class _Untouched(Exception):
    """Ends an `atomic_write` without writing."""


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file."""
    with atomic_write(path) as part:
        part.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8; errors as of `write_bytes`."""
    # Python's stand-ins for bytes of file names that are no UTF-8 become escapes, which JSON reads as them again.
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: str | Path, content: Any) -> None:
    """Write plain data as JSON; NaN and infinity, which JSON does not know, become null. Errors as of `write_bytes`."""
    write_text(path, json.dumps(finite(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def finite(content: Any) -> Any:
    """Return plain data with None for NaN and infinity, which JSON does not know."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def check_regular(path: str | Path) -> None:
    """Refuse what blocks or never ends when it is read; a missing file is left to its reader."""
    with contextlib.suppress(OSError, ValueError):
        mode = Path(path).stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise Vl4adError(f"{path}: not a regular file (a pipe, a device or a socket).")


def check_safetensors(path: str | Path, most: int | None = None) -> None:
    """Refuse what is no regular file, or has a header that is too large, before the library parses it (or OSError)."""
    check_regular(path)
    with Path(path).open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        whole = stream.seek(0, os.SEEK_END)
    if most is not None and whole > most:
        raise Vl4adError(f"{path}: {whole} bytes, more than the {most} that such a file may have.")
    if size > MAX_SAFETENSORS_HEADER:
        raise Vl4adError(f"{path}: not safetensors, or damaged (its header claims {size} bytes).")


def read_bytes(path: Path) -> bytes:
    """Read a file."""
    check_regular(path)
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Vl4adError(f"There is no file {path}.") from error
    except OSError as error:
        raise Vl4adError(f"{path} cannot be read ({error.strerror}).") from error


def read_npy(path: str | Path) -> NDArray[Any]:
    """Read the array of an .npy file, without unpickling."""
    check_regular(path)
    try:
        array = np.load(path, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError("it is an archive of arrays; write one array with numpy.save")
    except Exception as error:  # NumPy and zipfile raise whatever the damage provokes
        raise Vl4adError(f"{path}: cannot be read as an .npy array ({error}).") from error
    return array


def read_npz(path: str | Path, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read the named arrays of an .npz file without unpickling; None reads all."""
    check_regular(path)
    try:
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            raise ValueError("it is a single array; write named arrays with numpy.savez")
        with stored:
            there = stored.files
            arrays = {name: stored[name] for name in there if names is None or name in names}
    except Exception as error:  # NumPy and zipfile raise whatever the damage provokes
        raise Vl4adError(f"{path}: cannot be read as an .npz file ({error}).") from error
    if missing := [name for name in names or () if name not in arrays]:
        raise Vl4adError(f"{path}: lacks the arrays {missing}; it has {there}.")
    return arrays


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal; one that is no regular file is an error."""
    check_regular(path)
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_text(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 bytes, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_tree(path: str | Path) -> str:
    """Return the SHA-256 of a file, or of a folder: over the names and hashes of all files in it, in order."""
    root = Path(path)
    if root.is_file():
        return sha256_file(root)
    files = sorted(file for file in root.rglob("*") if file.is_file())
    return sha256_text("".join(f"{file.relative_to(root).as_posix()}\0{sha256_file(file)}\n" for file in files))
