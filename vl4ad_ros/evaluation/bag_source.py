"""A bag as a source of frames: image, label and recorded results joined by their stamps, exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.frames import Fault, Frame, fault_sentences
from vl4ad_ros.io.bag_reader import BagImage, BagReader
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import sha256_tree
from vl4ad_ros.io.labels import LabelMapping

NS = 1_000_000_000
# Labels as this package's drives have them: 0, 1, 255.
PLAIN_LABELS = LabelMapping(frozenset({1}), frozenset({255}))


class BagSource:
    """The frames of a bag, in the order of their stamps.

    Attributes:
        path: The bag.
        image_topic: Topic of the camera.
        label_topic: Topic of the ground truth, or None.
        recorded: A bag with the detector's outputs for the same stamps, or None.
        found: Sentences on what could not be used, as far as opening it told.
        faults: Frame index -> what could not be read, so far.
    """

    def __init__(
        self,
        path: Path,
        image_topic: str | None = None,
        label_topic: str | None = None,
        mapping: LabelMapping = PLAIN_LABELS,
        recorded: Path | None = None,
        uncertainty_topic: str | None = None,
        latency_ms: dict[int, dict[str, float]] | None = None,
    ) -> None:
        """Read the stamps of all topics that are needed.

        Args:
            path: The bag.
            image_topic: Topic of the camera; None takes the only one.
            label_topic: Topic of the labels (mono8 or mono16); None where there is no ground truth.
            mapping: What the labels' values mean.
            recorded: A bag with the detector's outputs; its frames are those that it has a map for.
            uncertainty_topic: Topic of the maps in it; None takes the one that ends with `/uncertainty`.
            latency_ms: Stamp -> stage -> milliseconds, for recorded results.

        Raises:
            Vl4adError: If a bag or a topic is missing or of another type, or nothing on one of them can be read.
        """
        self.path, self.recorded, self._mapping, self._latency = path, recorded, mapping, latency_ms or {}
        self.found: list[str] = []
        self.faults: dict[int, Fault] = {}
        with BagReader(path) as bag:
            self.label_topic = None if label_topic is None else bag.image_topic(label_topic)
            self.image_topic = bag.image_topic(image_topic, labels=self.label_topic)
            images = self._stamps(bag, self.image_topic, BagImage.rgb)
            labels = self._stamps(bag, self.label_topic, self._label) if self.label_topic else []
        self._labelled = frozenset(labels)
        chosen = sorted(set(images))
        self._check_stamps(images)
        if recorded is not None:
            with BagReader(recorded) as bag:
                self._uncertainty_topic = _uncertainty_topic(bag, uncertainty_topic)
                results = set(self._stamps(bag, self._uncertainty_topic, self._map))
            foreign = len(results - set(images))
            if foreign:
                self.found.append(f"{foreign} recorded results belong to no image of {path.name}.")
            chosen = [stamp for stamp in chosen if stamp in results]
        if not chosen:
            raise Vl4adError(f"{path}: no frame of '{self.image_topic}' can be evaluated. {' '.join(self.found)}")
        if self.label_topic:
            without = sum(stamp not in self._labelled for stamp in chosen)
            if without:
                self.found.append(f"{without} of {len(chosen)} frames have no label with their stamp.")
            orphans = len(self._labelled - set(images))
            if orphans:
                self.found.append(f"{orphans} labels belong to no image.")
        self._chosen = chosen
        self._sha256 = sha256_tree(path)

    @property
    def problems(self) -> list[str]:
        """Sentences on what could not be used, so far."""
        return self.found + fault_sentences(self.faults, len(self))

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
            "frames": len(self._chosen),
            "is_drive": True,
        }
        if self.recorded is not None:
            about |= {"recorded": str(self.recorded), "recorded_sha256": sha256_tree(self.recorded)}
        return about

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
                maps = _Joined(stack.enter_context(BagReader(self.recorded)), self._uncertainty_topic)
            for index in indices:
                frame = self._frame(index, images, labels, maps)
                if frame is not None:
                    yield frame

    def _frame(self, index: int, images: _Joined, labels: _Joined | None, maps: _Joined | None) -> Frame | None:
        """Return a frame, or None where its image or its recorded map cannot be read."""
        stamp = self._chosen[index]
        name = f"{stamp // NS}.{stamp % NS:09d}"
        label = None
        if labels is not None and stamp in self._labelled:
            try:
                label = self._label(labels.take(stamp))
            except Vl4adError as error:
                self.faults[index] = Fault(name, "label", str(error), left_out=False)
        what = "image"
        try:
            image = images.take(stamp).rgb()
            what = "map"
            uncertainty = None if maps is None else self._map(maps.take(stamp))
        except Vl4adError as error:
            self.faults[index] = Fault(name, what, str(error))
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
            raise Vl4adError(f"Topic '{self._uncertainty_topic}' carries {values.dtype} {values.shape}, no 32FC1.")
        return values

    def _stamps(self, bag: BagReader, topic: str, read: Callable[[BagImage], object]) -> list[int]:
        """Return a topic's stamps in the order of recording, as far as it can be read.

        Raises:
            Vl4adError: If none of its messages can be used: then the topic is not what it was taken for.
        """
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
        if stamps and not usable:
            raise Vl4adError(f"{bag.path}: none of the {len(stamps)} messages on '{topic}' can be used. {fault}")
        return stamps

    def _check_stamps(self, stamps: Sequence[int]) -> None:
        backwards = sum(later < earlier for earlier, later in pairwise(stamps))
        if backwards:
            self.found.append(f"The stamps of '{self.image_topic}' go back {backwards} times; they were sorted.")
        repeated = len(stamps) - len(set(stamps))
        if repeated:
            self.found.append(
                f"{repeated} images on '{self.image_topic}' repeat another one's stamp; the first one counts."
            )
        if 0 in stamps:
            self.found.append(f"Some images on '{self.image_topic}' have no stamp (zero).")


class _Joined:
    """The messages of a topic by stamp: reads on as far as needed and keeps what it had to pass over."""

    def __init__(self, bag: BagReader, topic: str) -> None:
        self._messages = bag.images(topic)
        self._passed: dict[int, BagImage] = {}
        self._last: int | None = None

    def take(self, stamp: int) -> BagImage:
        """Return the first message with a stamp; stamps are asked for in ascending order."""
        # What lies before the stamp asked for will never be asked for again.
        if self._last is None or stamp > self._last:
            self._passed = {key: value for key, value in self._passed.items() if key >= stamp}
            self._last = stamp
        while stamp not in self._passed:
            message = next(self._messages, None)
            if message is None:
                raise Vl4adError(f"The message with stamp {stamp} has gone: the bag changed while it was read.")
            if message.stamp_ns >= stamp:
                self._passed.setdefault(message.stamp_ns, message)
        return self._passed[stamp]


def _uncertainty_topic(bag: BagReader, name: str | None) -> str:
    if name is not None:
        return bag.image_topic(name)
    fitting = [topic for topic in bag.topics() if topic.endswith("/uncertainty")]
    if len(fitting) != 1:
        raise Vl4adError(
            f"{bag.path} has {len(fitting)} topics that end with /uncertainty {fitting}; name one of them."
        )
    return fitting[0]
