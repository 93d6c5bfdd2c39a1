"""Writing rosbag2 recordings in MCAP: of messages, and of pictures or videos as a camera's."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, get_typestore

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.images import array_fields
from vl4ad_ros.io.media import encode_jpeg

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
# Of a bag from pictures.
IMAGE_TOPIC = "/camera/image_raw"
LABEL_TOPIC = "/camera/label"
FRAME_ID = "camera"
# A fixed date, so that the same pictures make the same bag: 2026-01-01 00:00:00 UTC.
START_NS = 1_767_225_600_000_000_000
JPEG_QUALITY = 95


class BagWriter(AbstractContextManager["BagWriter"]):
    """A new bag open for writing; use it in a `with` statement. What is written counts only when it is closed."""

    def __init__(self, path: str | Path, compress: bool = True, keep: bool = False) -> None:
        """Create the bag's folder; where it cannot be finished, the folder goes, but for `keep`."""
        self.path, self._keep = Path(path), keep
        self._types = get_typestore(Stores.ROS2_HUMBLE)
        self._connections: dict[str, Connection] = {}
        try:
            # 8: the newest metadata that every supported distribution reads.
            self._writer = Writer(self.path, version=8, storage_plugin=StoragePlugin.MCAP)
            if compress:
                self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            self._writer.open()
        except (WriterError, OSError) as error:
            raise Vl4adError(f"The bag {self.path} cannot be written ({error}).") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fault: OSError | None = None
        try:
            if kind is None:
                self._writer.close()
                return
            self._writer.abort()
        except OSError as unwritten:
            fault = unwritten
        if not self._keep:
            shutil.rmtree(self.path, ignore_errors=True)
        if kind is None:
            raise Vl4adError(f"The bag {self.path} cannot be finished ({fault}).") from fault

    def add_topic(self, topic: str, message_type: str) -> None:
        """Declare a topic, e.g. `/camera/image_raw` of type `sensor_msgs/msg/Image`."""
        self._connections[topic] = self._writer.add_connection(topic, message_type, typestore=self._types)

    def write_raw(self, topic: str, log_ns: int, data: bytes | memoryview) -> None:
        """Write a message in CDR to a declared topic, received at `log_ns` (nanoseconds)."""
        try:
            self._writer.write(self._connections[topic], log_ns, data)
        except OSError as error:
            raise Vl4adError(f"The bag {self.path} cannot be written ({error}).") from error

    def write(self, topic: str, log_ns: int, message: Any) -> None:
        """Write a message made by `message` or `image`."""
        self.write_raw(topic, log_ns, self._types.serialize_cdr(message, self._connections[topic].msgtype))

    def message(self, message_type: str, **fields: Any) -> Any:
        """Make a message of a type."""
        return self._types.types[message_type](**fields)

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        """Make a std_msgs/Header."""
        sec, nanosec = divmod(stamp_ns, 1_000_000_000)
        stamp = self.message("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
        return self.message("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)

    def image(self, pixels: NDArray[Any], encoding: str, stamp_ns: int, frame_id: str) -> Any:
        """Make a sensor_msgs/Image from an array [H, W] or [H, W, C]."""
        return self.message(IMAGE, header=self.header(stamp_ns, frame_id), **array_fields(pixels, encoding))

    def camera_info(self, width: int, height: int, focal: float, stamp_ns: int, frame_id: str) -> Any:
        """Make a sensor_msgs/CameraInfo of a pinhole camera: focal length in pixels, principal point in the middle."""
        x, y = (width - 1) / 2, (height - 1) / 2
        return self.message(
            "sensor_msgs/msg/CameraInfo",
            header=self.header(stamp_ns, frame_id),
            height=height,
            width=width,
            distortion_model="plumb_bob",
            d=np.zeros(5),
            k=np.array([focal, 0, x, 0, focal, y, 0, 0, 1]),
            r=np.eye(3).reshape(-1),
            p=np.array([focal, 0, x, 0, 0, focal, y, 0, 0, 0, 1, 0]),
            binning_x=0,
            binning_y=0,
            roi=self.message(
                "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
            ),
        )


def write_pictures(
    bag_path: Path,
    pictures: Iterable[tuple[str, NDArray[np.uint8]]],
    rate: float,
    label_of: Callable[[str], NDArray[np.int32] | None] | None = None,
    jpeg: bool = False,
    progress: Callable[[], object] = lambda: None,
) -> tuple[int, int]:
    """Write pictures, RGB uint8 [H, W, 3], as a camera's images, evenly spaced; return how many, and how many labels.

    `label_of` a picture's name gives its label values int32 [H, W], or None. JPEG has quality 95, as CompressedImage on
    `/camera/image_raw/compressed`.
    """
    if not 0 < rate <= 1000:
        raise Vl4adError(f"The rate must lie in (0, 1000] pictures per second, got {rate:g}.")
    topic = f"{IMAGE_TOPIC}/compressed" if jpeg else IMAGE_TOPIC
    images = labels = 0
    with BagWriter(bag_path) as bag:
        bag.add_topic(topic, COMPRESSED if jpeg else IMAGE)
        if label_of is not None:
            bag.add_topic(LABEL_TOPIC, IMAGE)
        for name, image in pictures:
            stamp = START_NS + round(images * 1e9 / rate)
            if jpeg:
                data = np.frombuffer(encode_jpeg(image, JPEG_QUALITY), np.uint8)
                message = bag.message(COMPRESSED, header=bag.header(stamp, FRAME_ID), format="jpeg", data=data)
            else:
                message = bag.image(image, "rgb8", stamp, FRAME_ID)
            bag.write(topic, stamp, message)
            images += 1
            values = label_of(name) if label_of is not None else None
            if values is not None:
                bag.write(LABEL_TOPIC, stamp, bag.image(*_label(name, values, image), stamp, FRAME_ID))
                labels += 1
            progress()
    return images, labels


def _label(name: str, values: NDArray[np.int32], image: NDArray[np.uint8]) -> tuple[NDArray[np.unsignedinteger], str]:
    """Return a label as pixels and their encoding."""
    if values.shape != image.shape[:2]:
        raise Vl4adError(f"{name}: its label is {values.shape}, the picture {image.shape[:2]}.")
    if values.min() < 0 or values.max() > 0xFFFF:
        raise Vl4adError(f"{name}: its label has values up to {values.max()}; a bag's labels are mono8 or mono16.")
    if values.max() > 0xFF:
        return values.astype(np.uint16), "mono16"
    return values.astype(np.uint8), "mono8"
