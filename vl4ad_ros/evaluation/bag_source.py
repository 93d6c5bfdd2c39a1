"""A bag as a source of frames: image, label and recorded results joined by their stamps, exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.drives import Vehicle
from vl4ad_ros.evaluation.frames import Frame, FrameSource
from vl4ad_ros.io.bag_reader import MAX_GAP_S, BagImage, BagReader
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import sha256_tree
from vl4ad_ros.io.images import camera_info_beside
from vl4ad_ros.io.labels import LabelMapping

NS = 1_000_000_000
CAMERA_INFO, ODOMETRY = "sensor_msgs/msg/CameraInfo", "nav_msgs/msg/Odometry"
# Labels as this package's drives have them: 0, 1, 255.
PLAIN_LABELS = LabelMapping(frozenset({1}), frozenset({255}))


class BagSource(FrameSource):
    """The frames of a bag, in the order of their stamps."""

    def __init__(
        self,
        path: Path,
        image_topic: str | None = None,
        label_topic: str | None = None,
        mapping: LabelMapping = PLAIN_LABELS,
        recorded: Path | None = None,
        latency_ms: dict[int, dict[str, float]] | None = None,
    ) -> None:
        """Read the stamps of all topics that are needed.

        Args:
            image_topic: Topic of the camera; None takes the only one.
            label_topic: Topic of the labels (mono8 or mono16); None where there is no ground truth.
            mapping: What the labels' values mean.
            recorded: A bag with the detector's outputs, whose topic of maps ends with `/uncertainty`; the frames are
                those that it has a map for.
            latency_ms: Stamp -> stage -> milliseconds, for recorded results.
        """
        super().__init__()
        self.path, self.recorded, self._mapping, self._latency = path, recorded, mapping, latency_ms or {}
        with BagReader(path) as bag:
            self.label_topic = None if label_topic is None else bag.image_topic(label_topic)
            self.image_topic = bag.image_topic(image_topic, labels=self.label_topic)
            images = self._stamps(bag, self.image_topic, BagImage.rgb)
            labels = self._stamps(bag, self.label_topic, self._label) if self.label_topic else []
        self._check_stamps(images)
        self._chosen, self._labelled = sorted(set(images)), frozenset(labels)
        if recorded is not None:
            with BagReader(recorded) as bag:
                self._map_topic = _map_topic(bag)
                results = set(self._stamps(bag, self._map_topic, self._map))
            self._note(len(results - set(images)), f"recorded results belong to no image of {path.name}.")
            self._chosen = [stamp for stamp in self._chosen if stamp in results]
        if not self._chosen:
            raise Vl4adError(f"{path}: no frame of '{self.image_topic}' can be evaluated. {' '.join(self.found)}")
        if self.label_topic:
            without = len(set(self._chosen) - self._labelled)
            self._note(without, f"of {len(self._chosen)} frames have no label with their stamp.")
            self._note(len(self._labelled - set(images)), "labels belong to no image.")
        self._sha256 = sha256_tree(path)

    @property
    def description(self) -> dict[str, Any]:
        """What it is, with the hash of the bag's files."""
        about: dict[str, Any] = {
            "kind": "bag",
            "name": self.path.name,
            "path": str(self.path),
            "sha256": self._sha256,
            "image_topic": self.image_topic,
            "label_topic": self.label_topic,
            "frames": len(self),
            "is_drive": True,
        }
        if self.recorded is not None:
            about |= {"recorded": str(self.recorded), "recorded_sha256": sha256_tree(self.recorded)}
        return about

    @property
    def stamps_ns(self) -> list[int]:
        """The frames' stamps, by index."""
        return self._chosen

    def vehicle(self) -> Vehicle:
        """Return what the bag says of its vehicle: the calibration beside the images, and the first odometry."""
        info, places = None, []
        with BagReader(self.path) as bag, suppress(Vl4adError):  # What lies before a damaged place counts.
            kinds, beside = bag.topics(), camera_info_beside(self.image_topic)
            odometry = next((topic for topic, kind in kinds.items() if kind == ODOMETRY), "")
            for topic, _, data in bag.raw([odometry, beside]):
                if topic == odometry:
                    message = bag.deserialize(topic, data)
                    stamp, at = message.header.stamp, message.pose.pose.position
                    places.append((stamp.sec * NS + stamp.nanosec, at.x, at.y, at.z))
                elif info is None and kinds[topic] == CAMERA_INFO:
                    info = bag.deserialize(topic, data)
        places.sort()
        way = np.array([place[1:] for place in places]).reshape(-1, 3)
        metres = np.cumsum(np.linalg.norm(np.diff(way, axis=0, prepend=way[:1]), axis=1))
        return Vehicle(info, np.array([place[0] for place in places], np.int64), metres)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._chosen)

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Yield those of the frames with these indices, ascending, that can be read; `faults` has the others."""
        with ExitStack() as stack:
            bag = stack.enter_context(BagReader(self.path))
            images = _Joined(bag, self.image_topic)
            labels = _Joined(bag, self.label_topic) if self.label_topic else None
            maps = None
            if self.recorded is not None:
                maps = _Joined(stack.enter_context(BagReader(self.recorded)), self._map_topic)
            for index in indices:
                frame = self._frame(index, images, labels, maps)
                if frame is not None:
                    yield frame

    def _frame(self, index: int, images: _Joined, labels: _Joined | None, maps: _Joined | None) -> Frame | None:
        """Return a frame, or None where its image or its recorded map cannot be read."""
        stamp = self._chosen[index]
        name = f"{stamp // NS}.{stamp % NS:09d}"
        label = uncertainty = None
        if labels is not None and stamp in self._labelled:
            label = self._read(index, name, "label", lambda: self._label(labels.take(stamp)), left_out=False)
        image = self._read(index, name, "image", lambda: images.take(stamp).rgb())
        if maps is not None and image is not None:
            uncertainty = self._read(index, name, "map", lambda: self._map(maps.take(stamp)))
        if image is None or (maps is not None and uncertainty is None):
            return None
        return Frame(index, name, image, label, stamp, uncertainty, self.path.name, self._latency.get(stamp, {}))

    def _label(self, message: BagImage) -> NDArray[np.uint8]:
        values = message.array()
        if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
            raise Vl4adError(
                f"Topic '{self.label_topic}' carries {values.dtype} {values.shape}, expected mono8 or mono16."
            )
        return self._mapping.apply(values.astype(np.int32))

    def _map(self, message: BagImage) -> NDArray[np.float32]:
        values: NDArray[np.float32] = message.array()
        if values.dtype != np.float32 or values.ndim != 2:
            raise Vl4adError(f"Topic '{self._map_topic}' carries {values.dtype} {values.shape}, no 32FC1.")
        return values

    def _stamps(self, bag: BagReader, topic: str, read: Callable[[BagImage], object]) -> list[int]:
        """Return a topic's stamps in the order of recording, as far as it can be read."""
        stamps: list[int] = []
        fault: Vl4adError | None = None
        usable = False
        try:
            for image in bag.images(topic):
                stamps.append(image.stamp_ns)
                if not usable:
                    try:
                        read(image)
                        usable = True
                    except Vl4adError as error:
                        fault = fault or error
        except Vl4adError as error:
            if not stamps:
                raise
            self.found.append(f"{error} The first {len(stamps)} of {bag.count(topic)} messages on '{topic}' count.")
        unread = bag.undecodable[topic]
        self._note(len(unread), f"messages on '{topic}' cannot be decoded and are left out ({'; '.join(unread[:3])}).")
        if (stamps or unread) and not usable:
            count = len(stamps) + len(unread)
            raise Vl4adError(f"{bag.path}: none of the {count} messages on '{topic}' can be used. {fault or unread[0]}")
        return stamps

    def _check_stamps(self, stamps: Sequence[int]) -> None:
        topic = f"on '{self.image_topic}'"
        backwards = sum(later < earlier for earlier, later in pairwise(stamps))
        if backwards:
            self.found.append(f"The stamps {topic} go back {backwards} times; they were sorted.")
        self._note(len(stamps) - len(set(stamps)), f"images {topic} repeat another one's stamp; the first one counts.")
        gaps = [later - earlier for earlier, later in pairwise(sorted(stamps)) if later - earlier > MAX_GAP_S * NS]
        self._note(
            len(gaps),
            f"gaps between the stamps {topic} are longer than {MAX_GAP_S} s (up to {max(gaps, default=0) / NS:.0f} s); "
            f"each counts as {MAX_GAP_S} s.",
        )
        self._note(stamps.count(0), f"images {topic} have no stamp (zero).")

    def _note(self, count: int, sentence: str) -> None:
        """Keep a sentence on so many messages, where there are any."""
        if count:
            self.found.append(f"{count} {sentence}")


class _Joined:
    """The messages of a topic by stamp: reads on as far as needed and keeps what it had to pass over."""

    def __init__(self, bag: BagReader, topic: str) -> None:
        self._messages = bag.images(topic)
        self._passed: dict[int, BagImage] = {}

    def take(self, stamp: int) -> BagImage:
        """Return the first message with a stamp; stamps are asked for in ascending order."""
        # What lies before the stamp asked for will never be asked for again.
        self._passed = {key: value for key, value in self._passed.items() if key >= stamp}
        while stamp not in self._passed:
            message = next(self._messages, None)
            if message is None:
                raise Vl4adError(f"The message with stamp {stamp} has gone: the bag changed while it was read.")
            if message.stamp_ns >= stamp:
                self._passed.setdefault(message.stamp_ns, message)
        return self._passed[stamp]


def _map_topic(bag: BagReader) -> str:
    fitting = [topic for topic in bag.topics() if topic.endswith("/uncertainty")]
    if len(fitting) != 1:
        raise Vl4adError(f"{bag.path} has {len(fitting)} topics that end with /uncertainty {fitting}, expected one.")
    return fitting[0]
