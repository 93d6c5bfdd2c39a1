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

_ENCAPSULATION = 4
_PLAIN_CDR = (b"\x00\x00", b"\x00\x01")
_new_bytes = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_char_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)
_address_of_bytes = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(("PyBytes_AsString", ctypes.pythonapi))


def read_image(raw: bytes) -> tuple[Image, memoryview]:
    """Return a serialized image message without its pixels, and a view of its pixels.

    Raises:
        ValueError, struct.error or an error of rclpy: If the bytes are no image message.
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


def image_with_room(message: Image, size: int) -> tuple[bytes, NDArray[np.uint8]]:
    """Return an image message, given with empty data, in serialized form with room for `size` bytes of pixels.

    Args:
        message: The message; its `data` must be empty.
        size: Bytes of the pixels.

    Returns:
        The serialized message, its pixels not yet written; and their place in it, uint8 [size], to be filled before the
        message is used. The place keeps the message alive.
    """
    head = serialize_message(message)
    # The C API's own way to make bytes in place: without a first value, they may be written until somebody uses them.
    raw: bytes = _new_bytes(None, len(head) + size)
    memory: Any = (ctypes.c_ubyte * len(raw)).from_address(_address_of_bytes(raw))
    memory.owner = raw  # what looks into the memory keeps it
    place = np.frombuffer(memory, dtype=np.uint8)
    # rclpy serializes in the machine's own byte order.
    place[: len(head)] = np.frombuffer(head[:-4] + struct.pack("=I", size), dtype=np.uint8)
    return raw, place[len(head) :]
