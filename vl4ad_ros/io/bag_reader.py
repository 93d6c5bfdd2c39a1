"""Reading camera streams out of a bag."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import check_regular
from vl4ad_ros.io.images import message_to_array, message_to_rgb
from vl4ad_ros.io.unpacking import check_chunks

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
STORAGE_SUFFIXES = (".mcap", ".db3")
SUFFIXES = (*STORAGE_SUFFIXES, ".bag")
MAX_GAP_S = 60  # Between two messages; after a longer one, the clock was set or the recording went on another day.
# How recorders name the parts of a long recording: drive_0.mcap, drive_1.mcap, ...
_SPLIT = re.compile(r"(?P<name>.+)_(?P<number>\d+)\.(?P<kind>mcap|db3)")


def recorded_s(moments_ns: Iterable[int]) -> float:
    """Return the seconds from the first to the last of some moments; no gap counts as more than `MAX_GAP_S`."""
    gaps = (later - earlier for earlier, later in pairwise(sorted(moments_ns)))
    return sum(min(gap, MAX_GAP_S * 10**9) for gap in gaps) / 1e9


def is_bag(path: Path) -> bool:
    """Return whether a path looks like a bag: a folder with metadata.yaml or storage files, or a storage file."""
    return (path / "metadata.yaml").is_file() or path.suffix in SUFFIXES or bool(storage_files(path))


def storage_files(path: Path) -> list[Path]:
    """Return the storage files of a recording in its folder, in order; none where they are not of one recording."""
    if not path.is_dir():
        return []
    files = [file for file in path.iterdir() if file.suffix in STORAGE_SUFFIXES and file.is_file()]
    if len(files) < 2:
        return files
    parts = [(part, file) for file in files if (part := _SPLIT.fullmatch(file.name))]
    if len(parts) < len(files) or len({(part["name"], part["kind"]) for part, _ in parts}) > 1:
        return []
    return [file for _, file in sorted(parts, key=lambda pair: int(pair[0]["number"]))]


@dataclass(frozen=True)
class BagImage:
    """An image message."""

    stamp_ns: int  # its header's stamp, nanoseconds
    frame_id: str  # its header's frame
    log_ns: int  # when the recorder received it, nanoseconds
    message: Any

    def rgb(self) -> NDArray[np.uint8]:
        """Return the image as RGB, uint8 [H, W, 3]."""
        return message_to_rgb(self.message)

    def array(self) -> NDArray[Any]:
        """Return the pixels as they are stored."""
        return message_to_array(self.message)


class BagReader(AbstractContextManager["BagReader"]):
    """A bag open for reading; use it in a `with` statement.

    `undecodable`: topic -> what is wrong with each of its messages that `images` left out.
    """

    def __init__(self, path: str | Path) -> None:
        """Open the bag."""
        # The bag: a folder with metadata.yaml, a folder with the storage files of one recording (a recorder that was
        # killed leaves no metadata.yaml), or a single .mcap, .db3 (or ROS 1 .bag) file.
        self.path = Path(path)
        self.undecodable: dict[str, list[str]] = {}
        if not self.path.exists():
            raise Vl4adError(f"There is no bag {self.path}.")
        check_regular(self.path)
        if not is_bag(self.path):
            raise Vl4adError(
                f"{self.path} is no bag: expected a folder with metadata.yaml or a file {', '.join(SUFFIXES)}; "
                "'vl4ad make-bag' makes one of videos and pictures."
            )
        with self._damage_named():
            paths = [self.path] if (self.path / "metadata.yaml").is_file() else storage_files(self.path) or [self.path]
            self._reader = AnyReader(paths, default_typestore=get_typestore(Stores.ROS2_HUMBLE))
            self._reader.open()
            for reader in self._reader.readers:
                storage = getattr(reader, "storage", None)  # of a folder: one for each file
                check_chunks(getattr(storage, "storages", [storage]))

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the bag."""
        self._reader.close()

    def topics(self) -> dict[str, str]:
        """Return the message type of each topic (`mixed` where a topic has several)."""
        return {name: info.msgtype or "mixed" for name, info in sorted(self._reader.topics.items())}

    def count(self, topic: str) -> int:
        """Return the number of messages on a topic."""
        return self._reader.topics[topic].msgcount

    def duration_s(self) -> float:
        """Return the seconds between the first and the last message."""
        return max(self._reader.duration, 0) / 1e9

    def image_topic(self, name: str | None = None, labels: str | None = None) -> str:
        """Return a camera's topic: the given one, checked, or the only one with images that is not `labels`."""
        topics = self.topics()
        images = [topic for topic, kind in topics.items() if kind in IMAGE_TYPES]
        if name is not None:
            if name not in topics:
                raise Vl4adError(f"{self.path} has no topic '{name}'; its image topics are {images}.")
            if name not in images:
                raise Vl4adError(
                    f"Topic '{name}' of {self.path} carries {topics[name]}, no images; its image topics are {images}."
                )
            return name
        cameras = [t for t in images if t != labels and not t.rsplit("/", 1)[-1].startswith("label")]
        if len(cameras) != 1:
            raise Vl4adError(f"{self.path} has {len(cameras)} image topics {cameras}; name one of them.")
        return cameras[0]

    def raw(self, topics: Sequence[str], start_ns: int | None = None) -> Iterator[tuple[str, int, bytes]]:
        """Yield (topic, log time in ns, serialised message), ordered by log time, from a log time on."""
        connections = [c for c in self._reader.connections if c.topic in topics]
        messages = self._reader.messages(connections, start=start_ns) if connections else iter(())
        while True:
            with self._damage_named():
                message = next(messages, None)
            if message is None:
                return
            yield message[0].topic, message[1], message[2]

    def deserialize(self, topic: str, data: bytes) -> Any:
        """Return a serialised message as an object with the message's fields."""
        with self._damage_named():
            return self._reader.deserialize(data, self.topics()[topic])

    def images(self, topic: str, start_ns: int | None = None) -> Iterator[BagImage]:
        """Yield the images of a topic (see `image_topic`), ordered by log time, from a log time on.

        `undecodable` tells of those that cannot be decoded.
        """
        faults = self.undecodable[topic] = []
        for _, log_ns, data in self.raw([topic], start_ns):
            try:
                with self._damage_named():
                    message: Any = self._reader.deserialize(data, self.topics()[topic])
                    stamp = message.header.stamp
                    stamp_ns = int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
                    image = BagImage(stamp_ns, str(message.header.frame_id), log_ns, message)
            except Vl4adError as error:
                faults.append(str(error.__cause__))
                continue
            yield image

    def image_at(self, topic: str, share: float) -> BagImage:
        """Return the first image from a share of the bag's time on, in [0, 1); the topic's last where none follows."""
        start_ns = self._reader.start_time + int(max(self._reader.duration, 0) * share)
        image = next(self.images(topic, start_ns), None) or next(iter(deque(self.images(topic), maxlen=1)), None)
        if image is None:
            raise Vl4adError(f"{self.path} has no images on '{topic}'.")
        return image

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        """Name the bag in one sentence: a damaged file raises whatever its parser stumbles over."""
        try:
            yield
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            sentence = f"{self.path} cannot be read, it is damaged or cut off ({text})."
            database = self.path if self.path.suffix == ".db3" else next(iter(self.path.glob("*.db3")), None)
            if database is not None:
                sentence += f" SQLite's own tool saves what is left: sqlite3 {database} .recover | sqlite3 NEW.db3"
            raise Vl4adError(sentence) from error
