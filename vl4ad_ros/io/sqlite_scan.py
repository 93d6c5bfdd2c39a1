"""The messages of a rosbag2 database that was cut off, as far as they are complete."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

MAGIC = b"SQLite format 3\0"
Row = tuple[int, int, bytes]


def scan_sqlite(path: Path, folder: Path) -> Iterator[tuple[str, str, int, bytes]]:
    """Yield topic, message type, log time in nanoseconds and serialised message of what is complete.

    A copy is filled up to the length that the database's header tells, and read until SQLite stumbles.

    Args:
        path: The file.
        folder: Where the copy is kept meanwhile.
    """
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(MAGIC):
        return
    # 1 stands for 65536, which does not fit 16 bits.
    page = int.from_bytes(header[16:18], "big")
    page = 1 << 16 if page == 1 else page
    size = path.stat().st_size
    full = max(page * int.from_bytes(header[28:32], "big"), -(-size // page) * page)
    copy = folder / f".{path.name}.filled"
    try:
        shutil.copyfile(path, copy)
        # A row whose end alone is missing reads well, with the filling in its place. So the rows are read with two
        # fillings, and count as long as they come out the same.
        _fill(copy, size, full, 0x00)
        first = [hash(row) for _, row in _rows(copy)]
        _fill(copy, size, full, 0xFF)
        for known, (topic, row) in zip(first, _rows(copy), strict=False):
            if hash(row) != known:
                return
            yield (*topic, row[1], row[2])
    finally:
        copy.unlink(missing_ok=True)


def _fill(path: Path, size: int, full: int, value: int) -> None:
    """Fill a file from its own length up to another one."""
    with path.open("r+b") as file:
        file.seek(size)
        left = full - size
        while left > 0:
            left -= file.write(bytes([value]) * min(left, 1 << 20))


def _rows(path: Path) -> Iterator[tuple[tuple[str, str], Row]]:
    """Yield the messages with the name and type of their topic until SQLite stumbles."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)) as database:
            topics = {
                number: (name, kind) for number, name, kind in database.execute("SELECT id, name, type FROM topics")
            }
            for row in database.execute("SELECT topic_id, timestamp, data FROM messages"):
                if row[0] in topics and isinstance(row[2], bytes):
                    yield topics[row[0]], row
    except sqlite3.Error:
        return
