"""Writing rosbag2 recordings in MCAP."""

from __future__ import annotations

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


class BagWriter:
    """A new bag open for writing; use it in a `with` statement. What is written counts only when it is closed."""

    def __init__(self, path: str | Path, compress: bool = True) -> None:
        """Create the bag's folder.

        Args:
            path: The folder; it must not exist.
            compress: Whether to compress the MCAP's chunks (zstd).

        Raises:
            Vl4adError: If the folder exists or cannot be made.
        """
        self.path = Path(path)
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

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._writer.abort()
            return
        try:
            self._writer.close()
        except OSError as fault:
            raise Vl4adError(f"The bag {self.path} cannot be finished ({fault}).") from fault

    def add_topic(self, topic: str, message_type: str) -> None:
        """Declare a topic, e.g. `/camera/image_raw` of type `sensor_msgs/msg/Image`."""
        self._connections[topic] = self._writer.add_connection(topic, message_type, typestore=self._types)

    def write_raw(self, topic: str, log_ns: int, data: bytes) -> None:
        """Write a serialised message.

        Args:
            topic: A declared topic.
            log_ns: When it was received, nanoseconds.
            data: The message in CDR.
        """
        self._writer.write(self._connections[topic], log_ns, data)

    def write(self, topic: str, log_ns: int, message: Any) -> None:
        """Write a message made by `message` or `image`."""
        connection = self._connections[topic]
        self._writer.write(connection, log_ns, self._types.serialize_cdr(message, connection.msgtype))

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
        return self.message(
            "sensor_msgs/msg/Image", header=self.header(stamp_ns, frame_id), **array_fields(pixels, encoding)
        )

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
