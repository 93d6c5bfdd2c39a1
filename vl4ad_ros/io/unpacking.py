"""What bags have compressed, unpacked within limits: rosbags and mcap believe the sizes that a file claims."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from functools import partial
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
        del content, block  # An error keeps what its place knew.
        raise Vl4adError(f"a compressed block is cut off, or larger than {most} bytes")
    return content


def _unpack_records(data: bytes, size: int, kind: str) -> bytes:
    """Return the content of an MCAP's chunk. Zeros are refused: they would be 40 million empty records."""
    content = unpack(data, kind, size) if kind else data
    if content[:1] not in (b"", b"\3", b"\4", b"\5"):
        del content
        raise Vl4adError("a chunk does not begin with a schema, a channel or a message")
    return content


def unpack_chunk(chunk: Chunk) -> Chunk:
    """Return an MCAP's chunk without compression; errors as of `unpack`."""
    data = _unpack_records(chunk.data, chunk.uncompressed_size, chunk.compression)
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
for _kind in ("", *_KINDS):
    storage_mcap.DECOMPRESSORS[_kind] = partial(_unpack_records, kind=_kind)
reader.zstd = SimpleNamespace(decompress=unpack, open=zstd.open)  # type: ignore[attr-defined,assignment]
