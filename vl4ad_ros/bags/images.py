"""sensor_msgs images as arrays and back, without ROS: any object with the message's fields will do."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.image import ImageError, message_to_cvimage
from rosbags.image.image import to_cvtype

from vl4ad_ros.errors import Vl4adError

# By ROS convention an 8UCn image has OpenCV's channel order.
_PLAIN = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8", "16UC1": "mono16", "16UC3": "bgr16"}
_PLANAR = ("nv12", "nv21")


class _Unpadded:
    """An image message without row padding, as rosbags-image expects it."""

    def __init__(self, message: Any, encoding: str, data: NDArray[np.uint8]) -> None:
        self.height, self.width, self.is_bigendian = int(message.height), int(message.width), bool(message.is_bigendian)
        self.encoding, self.data = encoding, data


def message_to_array(message: Any) -> NDArray[Any]:
    """Return the pixels of a sensor_msgs/Image as they are stored: [H, W] or [H, W, C], row padding removed.

    Raises:
        Vl4adError: If the message is empty, its encoding is unknown, or its data do not fit its size and step.
    """
    if hasattr(message, "format"):
        return _decode(message)
    try:
        return np.asarray(message_to_cvimage(_unpadded(message)))  # type: ignore[arg-type]
    except (ImageError, cv2.error, ValueError, TypeError) as error:
        raise Vl4adError(_conversion_fault(message, error)) from error


def message_to_rgb(message: Any) -> NDArray[np.uint8]:
    """Return a sensor_msgs/Image or CompressedImage as RGB.

    Takes 8 and 16 bit mono, rgb(a), bgr(a), Bayer and YUV 4:2:2 encodings; 16 bits are scaled to 8.

    Args:
        message: The message, of rclpy or of rosbags.

    Returns:
        uint8 [H, W, 3].

    Raises:
        Vl4adError: If the message is empty, its encoding is unknown, or its data do not fit its size and step.
    """
    if hasattr(message, "format"):
        pixels = _decode(message)
        code = cv2.COLOR_GRAY2RGB if pixels.ndim == 2 else cv2.COLOR_BGR2RGB
        return np.asarray(cv2.cvtColor(pixels, code), dtype=np.uint8)
    try:
        return np.asarray(message_to_cvimage(_unpadded(message), "rgb8"), dtype=np.uint8)  # type: ignore[arg-type]
    except (ImageError, cv2.error, ValueError, TypeError) as error:
        raise Vl4adError(_conversion_fault(message, error)) from error


def _conversion_fault(message: Any, error: Exception) -> str:
    return f"An image with encoding '{message.encoding}' cannot be converted ({error})."


def _decode(message: Any) -> NDArray[np.uint8]:
    """Return a compressed image as mono [H, W] or BGR [H, W, 3]."""
    data = np.frombuffer(memoryview(message.data), dtype=np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_ANYCOLOR) if data.size else None
    if pixels is None:
        raise Vl4adError(f"A compressed image ('{message.format}', {data.size} bytes) cannot be decoded.")
    return np.asarray(pixels, dtype=np.uint8)


def _unpadded(message: Any) -> _Unpadded:
    """Check an image message's sizes and strip the padding from its rows."""
    encoding = _PLAIN.get(message.encoding, message.encoding)
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.frombuffer(memoryview(message.data), dtype=np.uint8)
    if height < 1 or width < 1 or data.size == 0:
        raise Vl4adError(f"An image is empty ({width}x{height}, {data.size} bytes).")
    try:
        _, _, depth, channels = to_cvtype(encoding)
    except ImageError as error:
        raise Vl4adError(f"The image encoding '{message.encoding}' is not supported.") from error
    if encoding in _PLANAR:
        raise Vl4adError(f"The image encoding '{encoding}' is not supported; publish it as yuv422_yuy2 or rgb8.")
    row = width * channels * np.dtype(depth).itemsize
    if step < row or data.size < step * (height - 1) + row:
        raise Vl4adError(
            f"An image's data do not fit its header: {width}x{height} '{message.encoding}' with step {step} needs "
            f"{max(step, row) * height} bytes, there are {data.size}."
        )
    if step != row:
        padded = np.lib.stride_tricks.as_strided(data, (height, row), (step, 1), writeable=False)
        data = np.ascontiguousarray(padded).reshape(-1)
    return _Unpadded(message, encoding, data[: row * height])


def array_fields(pixels: NDArray[Any], encoding: str) -> dict[str, Any]:
    """Return the fields of a sensor_msgs/Image (all but the header) for an array [H, W] or [H, W, C].

    Raises:
        Vl4adError: If the array is not what the encoding says.
    """
    _, _, depth, channels = to_cvtype(encoding)
    shape = pixels.shape[:2] if channels == 1 else (*pixels.shape[:2], channels)
    if pixels.dtype != np.dtype(depth) or pixels.shape != shape:
        raise Vl4adError(f"An array {pixels.dtype} {pixels.shape} is no image with encoding '{encoding}'.")
    height, width = pixels.shape[:2]
    return {
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": 0,
        "step": width * channels * pixels.dtype.itemsize,
        "data": np.ascontiguousarray(pixels).view(np.uint8).reshape(-1),
    }
