"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vl4ad_ros.io.errors import Vl4adError


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a path beside a file to write to, which takes the file's name when the block ends without an error.

    A block that fails or is killed leaves the old file as it was. The folder is made, and tried, before the block runs.

    Args:
        path: The file to write.

    Yields:
        An empty file of this process's own, in the same folder; its name ends in `.part`.

    Raises:
        Vl4adError: If the file cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise Vl4adError(f"{path} is a folder; name a file.")
    part = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.part")
    try:
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
    """Check that a file can be written, before the work that it shall keep; an existing file stays as it is.

    Raises:
        Vl4adError: If it cannot be written.
    """
    with contextlib.suppress(_Untouched), atomic_write(path):
        raise _Untouched


class _Untouched(Exception):
    """Ends an `atomic_write` without writing."""


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file.

    Raises:
        Vl4adError: If it cannot be written.
    """
    with atomic_write(path) as part:
        part.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8.

    Raises:
        Vl4adError: If it cannot be written.
    """
    write_bytes(path, text.encode())


def write_json(path: str | Path, content: Any) -> None:
    """Write plain data as JSON; a number that JSON does not know (NaN, infinity) becomes null.

    Raises:
        Vl4adError: If it cannot be written.
    """
    write_text(path, json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
