"""Files made to break a reader: few bytes that claim, or become, very many."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import lz4.frame
import numpy as np
from backports import zstd

PICTURE = np.random.default_rng(18).integers(0, 256, (32, 48, 3), dtype=np.uint8)
MAGIC = b"\x89MCAP0\r\n"


def encoded(suffix: str) -> bytes:
    return cv2.imencode(suffix, PICTURE)[1].tobytes()


def png_of(width: int, height: int) -> bytes:
    """A PNG of few bytes whose header, with the right check sum, claims a size."""
    data = bytearray(encoded(".png"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def bmp_of(width: int, height: int) -> bytes:
    data = bytearray(encoded(".bmp"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def jpeg_of_scans(count: int) -> bytes:
    """A JPEG whose one scan is there many times."""
    data = encoded(".jpg")
    start = data.index(b"\xff\xda")
    return data[:start] + data[start:-2] * count + data[-2:]


def record(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + struct.pack("<Q", len(content)) + content


def text(content: str) -> bytes:
    return struct.pack("<I", len(content)) + content.encode()


def chunk(compression: str, data: bytes, size: int) -> bytes:
    return record(6, struct.pack("<QQQI", 0, 1, size, 0) + text(compression) + struct.pack("<Q", len(data)) + data)


def zeros(compression: str, size: int) -> bytes:
    """So many zero bytes, packed; some hundred kilobytes a gigabyte."""
    if compression == "zstd":
        packer = zstd.ZstdCompressor()
        blocks = [packer.compress(bytes(32 << 20)) for _ in range(size >> 25)]
        return b"".join([*blocks, packer.flush()])
    frame = lz4.frame.LZ4FrameCompressor()
    start, blocks = frame.begin(), [frame.compress(bytes(32 << 20)) for _ in range(size >> 25)]
    return b"".join([start, *blocks, frame.flush()])


def recording(path: Path, *records: bytes) -> Path:
    """An MCAP file without an index."""
    content = [MAGIC, record(1, text("ros2") + text("")), *records]
    path.write_bytes(b"".join([*content, record(15, bytes(4)), record(2, bytes(20)), MAGIC]))
    return path


def indexed(path: Path, chunks: int, size: int) -> Path:
    """An MCAP file whose index claims chunks of one moment."""
    start = len(MAGIC) + len(record(1, text("ros2") + text("")))
    entry = (
        struct.pack("<QQQQI", 0, 9, start, 99, 0) + struct.pack("<Q", 0) + text("zstd") + struct.pack("<QQ", 9, size)
    )
    content = [MAGIC, record(1, text("ros2") + text("")), *[record(8, entry)] * chunks]
    path.write_bytes(b"".join([*content, record(2, struct.pack("<QQI", start, 0, 0)), MAGIC]))
    return path
