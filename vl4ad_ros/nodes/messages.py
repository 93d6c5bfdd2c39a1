"""Filling the messages that the detector publishes."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

from vl4ad_ros.io.images import HOST_IS_BIG_ENDIAN, image_bytes
from vl4ad_ros.nodes.cdr import image_with_room
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.runtime.regions import Region


def find_vision_msgs() -> Any | None:
    """Return the module vision_msgs.msg, or None where it is not installed (it is not among the PyPI wheels)."""
    try:
        return importlib.import_module("vision_msgs.msg")
    except ImportError:
        return None


def map_image(header: Header, pixels: NDArray[np.uint8] | NDArray[np.float32]) -> Image:
    """Return a map as sensor_msgs/Image: float32 [H, W] as 32FC1, uint8 [H, W] as mono8, uint8 [H, W, 3] as rgb8."""
    message = _without_pixels(header, pixels.shape, pixels.dtype)
    message.data = image_bytes(pixels)
    return message


class OutgoingMaps:
    """The maps of one frame as serialized messages, into which their pixels are written in place.

    Attributes:
        serialized: Name of the map -> what `map_image` would give, serialized.
    """

    def __init__(self, header: Header) -> None:
        """Create it.

        Args:
            header: The frame's header, for all its maps.
        """
        self._header = header
        self.serialized: dict[str, bytes] = {}

    def room(self, name: str, shape: tuple[int, int], dtype: type[np.generic]) -> NDArray[Any]:
        """Return the place of a map's pixels [H, W] (float32 or uint8), to be filled before the map is published."""
        message = _without_pixels(self._header, shape, np.dtype(dtype))
        self.serialized[name], place = image_with_room(message, message.step * message.height)
        return place.view(dtype).reshape(shape)


def _without_pixels(header: Header, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Image:
    encoding = "32FC1" if dtype == np.float32 else "mono8" if len(shape) == 2 else "rgb8"
    return Image(
        header=header,
        height=shape[0],
        width=shape[1],
        encoding=encoding,
        is_bigendian=int(HOST_IS_BIG_ENDIAN),
        step=shape[1] * dtype.itemsize * (1 if len(shape) == 2 else 3),
    )


def text(content: object) -> String:
    """Return plain data as JSON in a std_msgs/String."""
    return String(data=json.dumps(content, ensure_ascii=False))


def stamp_dict(header: Header) -> dict[str, int]:
    """Return a header's stamp as plain data."""
    return {"sec": header.stamp.sec, "nanosec": header.stamp.nanosec}


def regions_text(header: Header, size: tuple[int, int], regions: Sequence[Region]) -> String:
    """Return regions as JSON: stamp, frame_id, the mask's size, and the regions' fields."""
    return text(
        {
            "stamp": stamp_dict(header),
            "frame_id": header.frame_id,
            "height": size[0],
            "width": size[1],
            "regions": [region.as_dict() for region in regions],
        }
    )


def regions_detections(vision_msgs: Any, header: Header, regions: Sequence[Region]) -> Any:
    """Return regions as vision_msgs/Detection2DArray.

    The message has no field for a largest score or an area, so each detection has three hypotheses, with scores from 0
    to 1: `anomaly` (mean uncertainty), `anomaly_max` (largest uncertainty) and `anomaly_fill` (area / area of the box).
    """
    array = vision_msgs.Detection2DArray(header=header)
    for index, region in enumerate(regions):
        detection = vision_msgs.Detection2D(header=header, id=str(index))
        detection.bbox.center.position.x = region.x + region.width / 2
        detection.bbox.center.position.y = region.y + region.height / 2
        detection.bbox.size_x = float(region.width)
        detection.bbox.size_y = float(region.height)
        fill = region.area / (region.width * region.height)
        for name, score in (("anomaly", region.mean), ("anomaly_max", region.max), ("anomaly_fill", fill)):
            hypothesis = vision_msgs.ObjectHypothesisWithPose()
            hypothesis.hypothesis.class_id = name
            hypothesis.hypothesis.score = float(score)
            detection.results.append(hypothesis)
        array.detections.append(detection)
    return array


def label_info(vision_msgs: Any, header: Header, prompt_set: CompiledPromptSet, threshold: float) -> Any:
    """Return the in-distribution classes of a prompt set as vision_msgs/LabelInfo."""
    message = vision_msgs.LabelInfo(header=header, threshold=threshold)
    message.class_map = [
        vision_msgs.VisionClass(class_id=index, class_name=name)
        for index, name in enumerate(prompt_set.columns[: prompt_set.num_id])
    ]
    return message


def vision_info(vision_msgs: Any, header: Header, method: str, topic: str, version: int) -> Any:
    """Return vision_msgs/VisionInfo; its database_version goes up with each swap."""
    return vision_msgs.VisionInfo(header=header, method=method, database_location=topic, database_version=version)


def status(level: int, name: str, message: str, hardware_id: str, values: Mapping[str, object]) -> DiagnosticStatus:
    """Return a diagnostic status."""

    def shown(value: object) -> str:
        return f"{value:.2f}" if isinstance(value, float) else str(value)

    return DiagnosticStatus(
        level=bytes([level]),
        name=name,
        message=message,
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=shown(value)) for key, value in values.items()],
    )
