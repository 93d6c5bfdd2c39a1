"""What bags have compressed, unpacked within limits: rosbags and mcap believe the sizes that a file claims."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

from lz4.frame import LZ4FrameDecompressor
from mcap.records import Chunk
from rosbags.rosbag2 import reader, storage_mcap

from vl4ad_ros.io.errors import Vl4adError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Recorders write chunks of about a megabyte, or one message; the largest map that is read has 342 MiB.
MAX_UNPACKED = 384 << 20
_KINDS: dict[str, Any] = {"zstd": zstd.ZstdDecompressor, "lz4": LZ4FrameDecompressor}


def unpack(data: bytes, kind: str = "zstd", size: int = MAX_UNPACKED) -> bytes:
    """Return the content of a block, `zstd` or `lz4`, of at most `size` bytes; one that is larger is an error."""
    if kind not in _KINDS:
        raise Vl4adError(f"unknown compression {kind!r:.20}")
    block, most = _KINDS[kind](), min(size, MAX_UNPACKED)
    content: bytes = block.decompress(data, max_length=most + 1)
    if len(content) > most or not block.eof:
        raise Vl4adError(f"a compressed block is cut off, or larger than {most} bytes")
    return content


def unpack_chunk(chunk: Chunk) -> Chunk:
    """Return an MCAP's chunk without compression; errors as of `unpack`."""
    if not chunk.compression:
        return chunk
    data = unpack(chunk.data, chunk.compression, chunk.uncompressed_size)
    return dataclasses.replace(chunk, data=data, compression="")


def check_chunks(storages: Iterable[Any]) -> None:
    """Refuse an MCAP whose index has too much in chunks that overlap in time: those are unpacked together."""
    for storage in storages:
        chunks = getattr(storage, "chunks", ())
        edges = [(chunk.message_start_time, 0, chunk.uncompressed_size) for chunk in chunks]
        edges += [(chunk.message_end_time, 1, -chunk.uncompressed_size) for chunk in chunks]
        if max(accumulate(size for *_, size in sorted(edges)), default=0) > MAX_UNPACKED:
            raise Vl4adError(f"chunks of more than {MAX_UNPACKED} bytes belong to one moment")


# rosbags has no limit of its own, and no other place for one.
storage_mcap.DECOMPRESSORS.update(zstd=lambda data, size: unpack(data, "zstd", size))
storage_mcap.DECOMPRESSORS.update(lz4=lambda data, size: unpack(data, "lz4", size))
reader.zstd = SimpleNamespace(decompress=unpack, open=zstd.open)  # type: ignore[attr-defined,assignment]
