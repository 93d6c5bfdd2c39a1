"""Recovery of MCAP recordings that were cut off (power loss, full disk)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from mcap.records import Channel, Chunk, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk

from vl4ad_ros.io.bag_reader import IMAGE_TYPES, STORAGE_SUFFIXES, BagReader, storage_files
from vl4ad_ros.io.bag_writer import BagWriter
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.unpacking import MAX_UNPACKED, unpack_chunk


def readable_bag(path: Path, folder: Path) -> tuple[Path, str | None]:
    """Return a bag that can be opened, the given one or `folder`, and what was lost in a sentence (None: nothing).

    Of an MCAP file that was cut off, the images of all complete chunks are written again. Files of a split recording
    that are whole are linked.
    """
    try:
        BagReader(path).close()
        return path, None
    except Vl4adError as error:
        files = storage_files(path) or [path]
        if not all(file.is_file() and file.suffix in STORAGE_SUFFIXES for file in files):
            raise
        cause = error
    target = folder / f"{path.stem}.recovered"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    recovered = {file.name: _recover(file, target) for file in files}
    counts = [f"{count} images of {name}" for name, count in recovered.items() if count is not None]
    if not any(target.iterdir()):
        raise Vl4adError(f"{cause} No image of it is complete.") from cause
    if not counts:
        return target, f"{path} was read without its metadata.yaml: {cause}"
    return target, f"{path} is cut off; what could be read ({', '.join(counts)}) is evaluated."


def _recover(file: Path, target: Path) -> int | None:
    """Put what is left of a storage file into a folder; return the images recovered, None where the file is whole."""
    try:
        BagReader(file).close()
    except Vl4adError:
        if file.suffix != ".mcap":
            raise
        return _write_images(file, target, file.stem)
    try:
        (target / file.name).symlink_to(file.resolve())
    except OSError:  # A disk without links.
        shutil.copyfile(file, target / file.name)
    return None


def _records(stream: BinaryIO) -> Iterator[McapRecord]:
    """Yield the records of an MCAP file, those in chunks among them."""
    for record in StreamReader(stream, emit_chunks=True, record_size_limit=MAX_UNPACKED).records:
        if isinstance(record, Chunk):
            yield from breakup_chunk(unpack_chunk(record))
        else:
            yield record


def _complete_messages(file: Path) -> Iterator[tuple[str, str, int, bytes]]:
    """Yield topic, message type, log time in nanoseconds and serialised message up to the end or a damaged place."""
    schemas: dict[int, str] = {}
    channels: dict[int, tuple[str, str]] = {}
    with file.open("rb") as stream, suppress(Exception):  # Whatever the damage provokes in its parsers.
        for record in _records(stream):
            if isinstance(record, Schema):
                schemas[record.id] = record.name
            elif isinstance(record, Channel):
                channels[record.id] = (record.topic, schemas.get(record.schema_id, ""))
            elif isinstance(record, Message) and record.channel_id in channels:
                yield (*channels[record.channel_id], record.log_time, record.data)


def _write_images(file: Path, target: Path, name: str) -> int:
    """Write the complete images of a file as NAME.mcap; return how many there were."""
    count = 0
    topics: set[str] = set()
    # Not copied record by record: rosbags reads MCAP without an index only where log times never go back.
    with BagWriter(target / name, compress=False) as bag:
        for topic, kind, log_ns, data in _complete_messages(file):
            if kind not in IMAGE_TYPES:
                continue
            if topic not in topics:
                bag.add_topic(topic, kind)
                topics.add(topic)
            bag.write_raw(topic, log_ns, data)
            count += 1
    if count:
        (target / name / f"{name}.mcap").replace(target / f"{name}.mcap")
    shutil.rmtree(target / name)
    return count
