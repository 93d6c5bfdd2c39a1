"""Image messages as serialized bytes, without copying their pixels more often than needed.

rclpy copies the pixels of a message three times on the way in and out (C structure, array, serialized form): megabytes
each. Here rclpy handles everything but the pixels, which are the last member of sensor_msgs/Image and therefore the
end of its serialized form (OMG CDR: a sequence is its length, 4 bytes, and its elements).
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from vl4ad_ros.io.images import HOST_IS_BIG_ENDIAN, image_bytes

_ENCAPSULATION = 4
_PLAIN_CDR = (b"\x00\x00", b"\x00\x01")
_new_bytes = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_char_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)
_address_of_bytes = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(("PyBytes_AsString", ctypes.pythonapi))


def read_image(raw: bytes) -> tuple[Image, memoryview]:
    """Return a serialized image message without its pixels, and a view of its pixels.

    Other bytes raise ValueError, struct.error or an error of rclpy.
    """
    if raw[:2] not in _PLAIN_CDR:
        message: Any = deserialize_message(raw, Image)
        return message, memoryview(message.data)
    order = "<" if raw[1] else ">"

    def number(at: int) -> int:
        return int(struct.unpack_from(order + "I", raw, at)[0])

    def aligned(at: int) -> int:
        return at + (-at) % 4  # The 4 bytes of encapsulation before the members do not change alignment to 4.

    frame_id = _ENCAPSULATION + 8  # behind the stamp
    height = aligned(frame_id + 4 + number(frame_id))
    encoding = height + 8
    big_endian = encoding + 4 + number(encoding)
    length = aligned(big_endian + 1) + 4  # behind the step
    start = length + 4
    size = number(length)
    if start + size > len(raw):
        raise ValueError(f"{size} bytes of pixels announced, {len(raw) - start} there")
    return deserialize_message(raw[:length] + bytes(4), Image), memoryview(raw)[start : start + size]


def check_frame_id(raw: bytes, header: Header) -> None:
    """Refuse a serialized message whose frame_id is no UTF-8 or has a NUL: rclpy would send another one on."""
    if raw[:2] in _PLAIN_CDR:
        (size,) = struct.unpack_from("<I" if raw[1] else ">I", raw, 12)
        stored = raw[16 : 16 + size].removesuffix(b"\0")
        if stored != header.frame_id.encode():
            raise ValueError(f"its frame_id is {stored!r:.80}")


def map_image(header: Header, pixels: NDArray[np.uint8] | NDArray[np.float32]) -> Image:
    """Return a map as sensor_msgs/Image: float32 [H, W] as 32FC1, uint8 [H, W] as mono8, uint8 [H, W, 3] as rgb8."""
    message = _without_pixels(header, pixels.shape, pixels.dtype)
    message.data = image_bytes(pixels)
    return message


class OutgoingMaps:
    """The maps of one frame as serialized messages, into which their pixels are written in place."""

    def __init__(self, header: Header) -> None:
        """Begin without maps; the header is for all of them."""
        self._header = header
        self.serialized: dict[str, bytes] = {}  # name of the map -> what `map_image` would give, serialized

    def room(self, name: str, shape: tuple[int, int], dtype: type[np.generic]) -> NDArray[Any]:
        """Return the place of a map's pixels [H, W], to be filled before it is published; it keeps the message."""
        message = _without_pixels(self._header, shape, np.dtype(dtype))
        head, size = serialize_message(message), message.step * message.height
        # The C API's own way to make bytes in place: without a first value, they may be written until somebody uses
        # them.
        raw: bytes = _new_bytes(None, len(head) + size)
        memory: Any = (ctypes.c_ubyte * len(raw)).from_address(_address_of_bytes(raw))
        memory.owner = raw  # what looks into the memory keeps it
        place = np.frombuffer(memory, dtype=np.uint8)
        # rclpy serializes in the machine's own byte order.
        place[: len(head)] = np.frombuffer(head[:-4] + struct.pack("=I", size), dtype=np.uint8)
        self.serialized[name] = raw
        return place[len(head) :].view(dtype).reshape(shape)


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
