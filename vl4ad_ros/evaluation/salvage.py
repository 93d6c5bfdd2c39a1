"""Reading what is left of an MCAP recording that was cut off (power loss, full disk)."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

from vl4ad_ros.bags.reader import BagReader
from vl4ad_ros.errors import Vl4adError

Reader = Callable[[int], bytes]
MAGIC = b"\x89MCAP0\r\n"
_HEADER = struct.Struct("<BQ")
_DATA_END = 0x0F
# Footer without a summary: readers then go through the whole file.
_END = _HEADER.pack(_DATA_END, 4) + bytes(4) + _HEADER.pack(0x02, 20) + bytes(20) + MAGIC


def readable_bag(path: Path, folder: Path) -> tuple[Path, str | None]:
    """Return a bag that can be opened: the given one, or a copy of what is left of it.

    Args:
        path: The bag.
        folder: Where a copy is put.

    Returns:
        The bag, and a sentence on what was lost (None: nothing).

    Raises:
        Vl4adError: If it is missing, of another kind, or nothing of it can be read.
    """
    try:
        BagReader(path).close()
        return path, None
    except Vl4adError:
        files = [path] if path.suffix == ".mcap" else sorted(path.glob("*.mcap"))
        if len(files) != 1 or not files[0].is_file():
            raise
        end = _last_whole_record(files[0])
        if end is None:
            raise
        target = folder / f"{path.stem}.recovered.mcap"
        target.parent.mkdir(parents=True, exist_ok=True)
        with files[0].open("rb") as source, target.open("wb") as copy:
            shutil.copyfileobj(_Head(source.read, end), copy)
            copy.write(_END)
        BagReader(target).close()
        size = files[0].stat().st_size
        return target, f"{path} is cut off; what could be read ({end} of {size} bytes) is evaluated."


class _Head:
    """The first bytes of a file, as `shutil.copyfileobj` reads them."""

    def __init__(self, read: Reader, size: int) -> None:
        self._read, self._left = read, size

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes."""
        data = self._read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


def _last_whole_record(path: Path) -> int | None:
    """Return where the last complete record of the data section ends; None if there is none."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return None
        end = start = file.tell()
        while len(head := file.read(_HEADER.size)) == _HEADER.size:
            kind, length = _HEADER.unpack(head)
            if kind == _DATA_END or end + _HEADER.size + length > size:
                break
            end += _HEADER.size + length
            file.seek(end)
    return end if end > start else None
