"""From the bytes of an image message to an RGB array, and back. Knows no ROS type.

Encoding names and layouts: REP 118 and sensor_msgs/image_encodings.hpp, with the drivers' own spellings beside them.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.errors import Vl4adError

U8 = NDArray[np.uint8]
Data: TypeAlias = "bytes | bytearray | memoryview | array[int]"
MIN_SIDE, MAX_SIDE = 8, 16384


class BadImageError(Vl4adError):
    """An image message that cannot be used.

    Attributes:
        cause: Short name of what is wrong, under which it is counted.
    """

    def __init__(self, cause: str, sentence: str) -> None:
        super().__init__(sentence)
        self.cause = cause


def _convert(code: int) -> Callable[[U8], U8]:
    return lambda pixels: np.asarray(cv2.cvtColor(pixels, code), dtype=np.uint8)


def _same(pixels: U8) -> U8:
    return pixels


# name: (channels, bits per channel, to RGB)
_PACKED: dict[str, tuple[int, int, Callable[[U8], U8]]] = {}
for _bits in (8, 16):
    _PACKED |= {
        f"rgb{_bits}": (3, _bits, _same),
        f"bgr{_bits}": (3, _bits, _convert(cv2.COLOR_BGR2RGB)),
        f"rgba{_bits}": (4, _bits, _convert(cv2.COLOR_RGBA2RGB)),
        f"bgra{_bits}": (4, _bits, _convert(cv2.COLOR_BGRA2RGB)),
        f"mono{_bits}": (1, _bits, _convert(cv2.COLOR_GRAY2RGB)),
        f"{_bits}UC1": (1, _bits, _convert(cv2.COLOR_GRAY2RGB)),
        f"{_bits}UC3": (3, _bits, _convert(cv2.COLOR_BGR2RGB)),
        f"{_bits}UC4": (4, _bits, _convert(cv2.COLOR_BGRA2RGB)),
        f"bayer_rggb{_bits}": (1, _bits, _convert(cv2.COLOR_BayerRGGB2RGB)),
        f"bayer_bggr{_bits}": (1, _bits, _convert(cv2.COLOR_BayerBGGR2RGB)),
        f"bayer_gbrg{_bits}": (1, _bits, _convert(cv2.COLOR_BayerGBRG2RGB)),
        f"bayer_grbg{_bits}": (1, _bits, _convert(cv2.COLOR_BayerGRBG2RGB)),
    }
_UYVY = (2, 8, _convert(cv2.COLOR_YUV2RGB_UYVY))
_YUYV = (2, 8, _convert(cv2.COLOR_YUV2RGB_YUY2))
_PACKED |= {"yuv422": _UYVY, "uyvy": _UYVY, "yuv422_yuy2": _YUYV, "yuyv": _YUYV, "yuy2": _YUYV}
# One plane of Y, then one of interleaved chroma at half size both ways: 3/2 rows per image row.
_SEMI_PLANAR = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21}

ENCODINGS: tuple[str, ...] = (*_PACKED, *_SEMI_PLANAR)


def decode(encoding: str, height: int, width: int, step: int, big_endian: bool, data: Data) -> U8:
    """Turn the fields of a sensor_msgs/Image into an RGB array.

    16-bit channels keep their upper 8 bits. Bayer patterns are interpolated bilinearly. A float image is not a
    camera's and is refused.

    Args:
        encoding: One of `ENCODINGS`.
        height: Rows of the image.
        width: Columns of the image.
        step: Bytes per row; more than the pixels take is padding.
        big_endian: Byte order of 16-bit channels.
        data: step * height bytes (nv12, nv21: step * height * 3/2).

    Returns:
        RGB, uint8 [height, width, 3]; without padding, rgb8 is a view of `data`.

    Raises:
        BadImageError: If the fields contradict each other, the size is absurd or the encoding unknown.
    """
    if height == 0 or width == 0 or len(data) == 0:
        raise BadImageError("empty", f"The image is empty ({width}x{height}, {len(data)} bytes).")
    if not (MIN_SIDE <= height <= MAX_SIDE and MIN_SIDE <= width <= MAX_SIDE):
        raise BadImageError(
            "size", f"The image is {width}x{height}; expected sides from {MIN_SIDE} to {MAX_SIDE} pixels."
        )
    if encoding in _SEMI_PLANAR:
        return _semi_planar(encoding, height, width, step, data)
    if encoding not in _PACKED:
        raise BadImageError("encoding", f"Unknown encoding: expected one of {sorted(ENCODINGS)}, got {encoding!r:.60}.")
    channels, bits, to_rgb = _PACKED[encoding]
    if channels == 2 and width % 2:
        raise BadImageError("size", f"A {encoding} image has an even width, got {width}.")
    row = width * channels * bits // 8
    rows = _rows(encoding, height, row, step, data)
    if bits == 16:
        # The upper byte stands second in little-endian order, first in big-endian order.
        rows = rows[:, 0 if big_endian else 1 :: 2]
    pixels = rows.reshape(height, width, channels) if channels > 1 else rows
    return to_rgb(pixels if to_rgb is _same else np.ascontiguousarray(pixels))


def _rows(encoding: str, height: int, row: int, step: int, data: Data) -> U8:
    """Return the pixel bytes, uint8 [height, row], without padding."""
    if step < row:
        raise BadImageError("step", f"A row of this {encoding} image takes {row} bytes, but its step is {step}.")
    if len(data) != step * height:
        raise BadImageError(
            "data size", f"The {encoding} image has {len(data)} bytes, but step * rows is {step} * {height}."
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(height, step)[:, :row]


def _semi_planar(encoding: str, height: int, width: int, step: int, data: Data) -> U8:
    if height % 2 or width % 2:
        raise BadImageError("size", f"An {encoding} image has even sides, got {width}x{height}.")
    rows = _rows(encoding, height * 3 // 2, width, step, data)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(rows), _SEMI_PLANAR[encoding]), dtype=np.uint8)


def decode_compressed(image_format: str, data: Data) -> U8:
    """Turn the fields of a sensor_msgs/CompressedImage (JPEG, PNG, ...) into an RGB array.

    Args:
        image_format: As image_transport writes it, e.g. `jpeg` or `bgr8; jpeg compressed bgr8`.
        data: The file's bytes.

    Returns:
        RGB, uint8 [height, width, 3].

    Raises:
        BadImageError: If the bytes are not a picture, or one of an absurd size.
    """
    if len(data) == 0:
        raise BadImageError("empty", "The compressed image is empty.")
    # Orientation tags are a photographer's; the camera's calibration is for the pixels as they lie.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        bgr = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error as error:
        raise BadImageError("compressed data", f"The compressed image cannot be decoded ({error.err}).") from error
    if bgr is None:
        raise BadImageError(
            "compressed data", f"The {len(data)} bytes of format {image_format!r:.60} are not a picture."
        )
    if not (MIN_SIDE <= bgr.shape[0] <= MAX_SIDE and MIN_SIDE <= bgr.shape[1] <= MAX_SIDE):
        raise BadImageError(
            "size", f"The image is {bgr.shape[1]}x{bgr.shape[0]}; expected sides from {MIN_SIDE} to {MAX_SIDE} pixels."
        )
    if "compressed rgb" in image_format:  # image_transport stored RGB as it was: the decoder's "BGR" is RGB already.
        return np.asarray(bgr, dtype=np.uint8)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def image_bytes(pixels: NDArray[np.uint8] | NDArray[np.float32]) -> array[int]:
    """Return an array's bytes in the one form that rclpy takes over in a single copy.

    Assigning an ndarray to `Image.data` makes rclpy look at every element: half a second for a 1080p float map.
    """
    filled = array("B")
    filled.frombytes(np.ascontiguousarray(pixels).data.cast("B"))
    return filled


HOST_IS_BIG_ENDIAN = sys.byteorder == "big"
