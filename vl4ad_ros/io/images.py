"""From the fields of an image message to arrays, and back: of rclpy, of a bag, or of anything with the same fields.

Encoding names and layouts: REP 118 and sensor_msgs/image_encodings.hpp, with the drivers' own spellings beside them.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.picture_header import picture_size

U8 = NDArray[np.uint8]
Data: TypeAlias = "bytes | bytearray | memoryview | array[int] | U8"
MIN_SIDE, MAX_SIDE, MAX_PIXELS = 8, 16384, 64 << 20
COMPRESSED = ("JPEG", "PNG")  # what image_transport sends
HOST_IS_BIG_ENDIAN = sys.byteorder == "big"


class BadImageError(Vl4adError):
    """An image message that cannot be used."""

    def __init__(self, cause: str, sentence: str) -> None:
        super().__init__(sentence)
        self.cause = cause  # short name of what is wrong, under which it is counted


def camera_info_beside(image: str) -> str:
    """Return the topic of the camera_info that belongs to an image topic, by image_transport's convention."""
    return image.removesuffix("/compressed").rsplit("/", 1)[0] + "/camera_info"


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
# The chroma plane of nv24 has the image's size: 3 rows per image row. OpenCV has no code for it.
_NV24 = "nv24"
# ITU-R BT.601 with Y from 16 to 235, as OpenCV takes the other YUV encodings: Y, U, V, 1 -> R, G, B.
_FROM_YUV = np.array([[1.164, 0.0, 1.596, 0.0], [1.164, -0.391, -0.813, 0.0], [1.164, 2.018, 0.0, 0.0]])
_FROM_YUV[:, 3] = _FROM_YUV[:, :3] @ (-16.0, -128.0, -128.0)
# Encodings of maps and labels, not of cameras: the part before C1 to C4.
_NUMBERS = {"8S": "i1", "16S": "i2", "32S": "i4", "32F": "f4", "64F": "f8"}

ENCODINGS: tuple[str, ...] = (*_PACKED, *_SEMI_PLANAR, _NV24)


def decode(encoding: str, height: int, width: int, step: int, big_endian: bool, data: Data) -> U8:
    """Turn the fields of a sensor_msgs/Image into RGB uint8 [height, width, 3]; unpadded rgb8 is a view of `data`.

    16-bit channels keep their upper 8 bits. Bayer patterns are interpolated bilinearly. A float image is not a camera's
    and is refused. `step` bytes per row may hold padding; `data` has step * height bytes (nv12, nv21: 3/2 times as
    many, nv24: 3 times). What contradicts itself is a `BadImageError`.
    """
    if height == 0 or width == 0 or len(data) == 0:
        raise BadImageError("empty", f"The image is empty ({width}x{height}, {len(data)} bytes).")
    _check_size(height, width)
    if encoding in _SEMI_PLANAR:
        return _semi_planar(encoding, height, width, step, data)
    if encoding == _NV24:
        return _nv24(height, width, step, data)
    if encoding not in _PACKED:
        raise BadImageError("encoding", f"Unknown encoding: expected one of {sorted(ENCODINGS)}, got {encoding!r:.60}.")
    channels, bits, _ = _PACKED[encoding]
    if channels == 2 and width % 2:
        raise BadImageError("size", f"A {encoding} image has an even width, got {width}.")
    row = width * channels * bits // 8
    rows = _rows(encoding, height, row, step, data)
    if encoding in _bridged() and step == row:
        return _by_cv_bridge(encoding, height, width, step, data)
    return _to_rgb(encoding, height, width, big_endian, rows)


def _to_rgb(encoding: str, height: int, width: int, big_endian: bool, rows: U8) -> U8:
    channels, bits, to_rgb = _PACKED[encoding]
    rows = rows[:, : width * channels * bits // 8]
    if bits == 16:
        # The upper byte stands second in little-endian order, first in big-endian order.
        rows = rows[:, 0 if big_endian else 1 :: 2]
    pixels = rows.reshape(height, width, channels) if channels > 1 else rows
    return to_rgb(pixels if to_rgb is _same else np.ascontiguousarray(pixels))


def decoder_name() -> str:
    """Return what decodes images: `cv_bridge`, or this module where cv_bridge is not installed or does not work."""
    return "cv_bridge" if _bridged() else "vl4ad_ros"


@lru_cache(maxsize=1)
def _bridged() -> frozenset[str]:
    """Return the encodings that cv_bridge decodes here as this module does; it is tried on a small image of each."""
    rng = np.random.default_rng(0)
    found = set()
    for encoding, (channels, bits, _) in _PACKED.items():
        if bits == 8 and "UC" not in encoding:
            rows = rng.integers(0, 256, (MIN_SIDE, MIN_SIDE * channels), dtype=np.uint8)
            try:
                bridged = _by_cv_bridge(encoding, MIN_SIDE, MIN_SIDE, rows.shape[1], rows.tobytes())
            except Exception:  # Not there, built for another NumPy, or an encoding that it does not know.
                continue
            if np.array_equal(bridged, _to_rgb(encoding, MIN_SIDE, MIN_SIDE, False, rows)):
                found.add(encoding)
    return frozenset(found)


@lru_cache(maxsize=1)
def _cv_bridge() -> Any:
    from cv_bridge import CvBridge

    return CvBridge()


def _by_cv_bridge(encoding: str, height: int, width: int, step: int, data: Data) -> U8:
    fields = {"encoding": encoding, "height": height, "width": width, "step": step, "is_bigendian": 0, "data": data}
    return np.asarray(_cv_bridge().imgmsg_to_cv2(SimpleNamespace(**fields), "rgb8"), dtype=np.uint8)


def _check_size(height: int, width: int) -> None:
    sides_fit = MIN_SIDE <= height <= MAX_SIDE and MIN_SIDE <= width <= MAX_SIDE
    if not sides_fit or height * width > MAX_PIXELS:
        raise BadImageError(
            "size",
            f"The image is {width}x{height}; expected sides from {MIN_SIDE} to {MAX_SIDE} pixels, and not more than "
            f"{MAX_PIXELS >> 20} million pixels.",
        )


def _rows(encoding: str, height: int, row: int, step: int, data: Data) -> U8:
    """Return the bytes row by row with their padding, uint8 [height, step]; a row needs `row` of them."""
    if step < row:
        raise BadImageError("step", f"A row of this {encoding} image takes {row} bytes, but its step is {step}.")
    if len(data) != step * height:
        raise BadImageError(
            "data size", f"The {encoding} image has {len(data)} bytes, but step * rows is {step} * {height}."
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(height, step)


def _semi_planar(encoding: str, height: int, width: int, step: int, data: Data) -> U8:
    if height % 2 or width % 2:
        raise BadImageError("size", f"An {encoding} image has even sides, got {width}x{height}.")
    rows = _rows(encoding, height * 3 // 2, width, step, data)[:, :width]
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(rows), _SEMI_PLANAR[encoding]), dtype=np.uint8)


def _nv24(height: int, width: int, step: int, data: Data) -> U8:
    rows = _rows(_NV24, height * 3, width, step, data)
    chroma = rows[height:].reshape(height, 2 * step)[:, : 2 * width].reshape(height, width, 2)
    yuv = np.dstack([rows[:height, :width], chroma])
    return np.asarray(cv2.transform(yuv, _FROM_YUV), dtype=np.uint8)


def decode_compressed(image_format: str, data: Data) -> U8:
    """Turn a sensor_msgs/CompressedImage (JPEG or PNG) into RGB uint8 [height, width, 3], or raise `BadImageError`.

    `image_format` is as image_transport writes it, e.g. `jpeg` or `bgr8; jpeg compressed bgr8`.
    """
    bgr = np.asarray(_decode_picture(image_format, data, cv2.IMREAD_COLOR), dtype=np.uint8)
    if "compressed rgb" in image_format:  # image_transport stored RGB as it was: the decoder's "BGR" is RGB already.
        return bgr
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _decode_picture(image_format: str, data: Data, flags: int) -> NDArray[Any]:
    if len(data) == 0:
        raise BadImageError("empty", "The compressed image is empty.")
    try:
        height, width = picture_size(bytes(data), COMPRESSED)
    except Vl4adError as error:
        sentence = f"The compressed image of format {image_format!r:.60} is no JPEG or PNG to decode: {error}."
        raise BadImageError("compressed data", sentence) from error
    _check_size(height, width)
    try:
        # Orientation tags are a photographer's; the camera's calibration is for the pixels as they lie.
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise BadImageError("compressed data", f"The compressed image cannot be decoded ({error.err}).") from error
    if pixels is None:
        raise BadImageError("compressed data", f"The picture of format {image_format!r:.60} is damaged.")
    return np.asarray(pixels)


def message_to_rgb(message: Any, data: Data | None = None) -> U8:
    """Return an Image or CompressedImage, or its `data`, as RGB uint8 [H, W, 3] (`decode`, `decode_compressed`)."""
    m, data = message, message.data if data is None else data
    if hasattr(message, "format"):
        return decode_compressed(m.format, data)
    return decode(m.encoding, int(m.height), int(m.width), int(m.step), bool(m.is_bigendian), data)


def message_to_array(message: Any) -> NDArray[Any]:
    """Return the pixels of a message as they are stored, padding removed: [H, W] or [H, W, C]; a map, a label image."""
    if hasattr(message, "format"):
        return _decode_picture(message.format, message.data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    height, width, step = int(message.height), int(message.width), int(message.step)
    if height == 0 or width == 0 or len(message.data) == 0:
        raise BadImageError("empty", f"The image is empty ({width}x{height}, {len(message.data)} bytes).")
    dtype, channels = _stored(message.encoding)
    row = width * channels * dtype.itemsize
    rows = np.ascontiguousarray(_rows(message.encoding, height, row, step, message.data)[:, :row])
    pixels = rows.view(dtype.newbyteorder(">" if message.is_bigendian else "<")).reshape(height, width, channels)
    native: NDArray[Any] = pixels.astype(dtype, copy=False)
    return native[..., 0] if channels == 1 else native


def _stored(encoding: str) -> tuple[np.dtype[Any], int]:
    """Return the type and number of the channels of an encoding."""
    if encoding in _PACKED:
        channels, bits, _ = _PACKED[encoding]
        return np.dtype(f"u{bits // 8}"), channels
    kind, _, channels_text = encoding.partition("C")
    if kind not in _NUMBERS or channels_text not in ("1", "2", "3", "4"):
        raise BadImageError("encoding", f"The pixels of the encoding {encoding!r:.60} cannot be read.")
    return np.dtype(_NUMBERS[kind]), int(channels_text)


def array_fields(pixels: NDArray[Any], encoding: str) -> dict[str, Any]:
    """Return the fields of a sensor_msgs/Image (all but the header) for an array [H, W] or [H, W, C]."""
    dtype, channels = _stored(encoding)
    shape = pixels.shape[:2] if channels == 1 else (*pixels.shape[:2], channels)
    if pixels.dtype != dtype or pixels.shape != shape:
        raise Vl4adError(f"An array {pixels.dtype} {pixels.shape} is no image with encoding '{encoding}'.")
    return {
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "encoding": encoding,
        "is_bigendian": int(HOST_IS_BIG_ENDIAN),
        "step": pixels.nbytes // pixels.shape[0],
        "data": np.ascontiguousarray(pixels).view(np.uint8).reshape(-1),
    }


def image_bytes(pixels: NDArray[np.uint8] | NDArray[np.float32]) -> array[int]:
    """Return an array's bytes in the one form that rclpy takes over in a single copy.

    Assigning an ndarray to `Image.data` makes rclpy look at every element: half a second for a 1080p float map.
    """
    filled = array("B")
    filled.frombytes(np.ascontiguousarray(pixels).data.cast("B"))
    return filled
