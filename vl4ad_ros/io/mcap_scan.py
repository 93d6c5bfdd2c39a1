"""The messages of an MCAP file in the order in which they lie there, as far as the file goes."""

from __future__ import annotations

import importlib
import io
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

MAGIC = b"\x89MCAP0\r\n"
SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 0x03, 0x04, 0x05, 0x06, 0x0F
_HEADER = struct.Struct("<BQ")
# Compressed bytes that are unpacked at once: what comes before a damaged place in a chunk is kept.
_SLICE = 1 << 16


def scan_mcap(path: Path) -> Iterator[tuple[str, str, int, bytes]]:
    """Yield topic, message type, log time in nanoseconds and serialised message of what is complete.

    Neither the index nor the end of the file is needed. Of a chunk that is cut off, the beginning is unpacked.

    Args:
        path: The file.
    """
    schemas: dict[int, str] = {}
    channels: dict[int, tuple[str, str]] = {}
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(MAGIC)) == MAGIC:
            yield from _messages(file, size, schemas, channels)


def _messages(
    stream: IO[bytes], size: int, schemas: dict[int, str], channels: dict[int, tuple[str, str]]
) -> Iterator[tuple[str, str, int, bytes]]:
    while len(head := stream.read(_HEADER.size)) == _HEADER.size:
        kind, length = _HEADER.unpack(head)
        start = stream.tell()
        whole = length <= size - start
        if kind == DATA_END or not (whole or kind == CHUNK):
            return
        if kind in (SCHEMA, CHANNEL, MESSAGE, CHUNK):
            content = stream.read(min(length, size - start))
            try:
                if kind == SCHEMA:
                    schemas[struct.unpack_from("<H", content)[0]] = _text(content, 2)[0]
                elif kind == CHANNEL:
                    number, schema = struct.unpack_from("<HH", content)
                    channels[number] = (_text(content, 4)[0], schemas.get(schema, ""))
                elif kind == MESSAGE:
                    number, _, log_ns = struct.unpack_from("<HIQ", content)
                    if number in channels:
                        yield (*channels[number], log_ns, content[22:])
                else:
                    data = _unpacked(content)
                    yield from _messages(io.BytesIO(data), len(data), schemas, channels)
            except (struct.error, UnicodeDecodeError):
                pass  # A damaged record; the next one may be whole.
        if not whole:
            return
        stream.seek(start + length)


def _text(content: bytes, offset: int) -> tuple[str, int]:
    """Return the text at an offset, and where it ends."""
    (length,) = struct.unpack_from("<I", content, offset)
    end = offset + 4 + length
    if end > len(content):
        raise struct.error("the text is longer than its record")
    return content[offset + 4 : end].decode(), end


def _unpacked(chunk: bytes) -> bytes:
    """Return a chunk's records, as far as they can be unpacked."""
    name, end = _text(chunk, 28)
    packed = chunk[end + 8 :]
    if not name:
        return packed
    decompressor = _decompressor(name)
    if decompressor is None:
        return b""
    parts: list[bytes] = []
    for place in range(0, len(packed), _SLICE):
        try:
            parts.append(decompressor.decompress(packed[place : place + _SLICE]))
        except Exception:  # Each library has its own error for damaged data.
            break
    return b"".join(parts)


def _decompressor(name: str) -> Any | None:
    """Return a streaming decompressor out of the libraries that rosbags brings; None where there is none."""
    zstd = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    known = {"zstd": (zstd, "ZstdDecompressor"), "lz4": ("lz4.frame", "LZ4FrameDecompressor")}
    if name not in known:
        return None
    module, kind = known[name]
    try:
        return getattr(importlib.import_module(module), kind)()
    except ImportError:
        return None
