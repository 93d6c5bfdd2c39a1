"""Every encoding: patterns against formulas, padding, byte order, rosbags-image's pixels; messages and arrays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.images import (
    ENCODINGS,
    BadImageError,
    array_fields,
    decode,
    decode_compressed,
    image_bytes,
    message_to_array,
    message_to_rgb,
)

H, W = 16, 24
RGB = (200, 120, 40)
BAYER = {"rggb": ((0, 1), (1, 2)), "bggr": ((2, 1), (1, 0)), "gbrg": ((1, 2), (0, 1)), "grbg": ((1, 0), (2, 1))}


YUV = ("yuv422", "uyvy", "yuv422_yuy2", "yuyv", "yuy2", "nv12", "nv21", "nv24")


def from_yuv(y: Any, u: Any, v: Any) -> NDArray[np.uint8]:
    """ITU-R BT.601, Y from 16 to 235, in floating point: [H, W] planes to RGB."""
    y, u, v = 255 / 219 * (y.astype(float) - 16), u.astype(float) - 128, v.astype(float) - 128
    rgb = np.dstack([y + 1.596 * v, y - 0.392 * u - 0.813 * v, y + 2.017 * u])
    return np.asarray(np.clip(np.rint(rgb), 0, 255), np.uint8)


@pytest.mark.parametrize(("height", "width", "padding"), [(16, 24, 0), (9, 10, 10), (10, 34, 10)])
@pytest.mark.parametrize("encoding", YUV)
def test_patterns_in_yuv_against_the_formula(encoding: str, height: int, width: int, padding: int) -> None:
    """Every pixel with its own brightness, every chroma sample with its own colour, bytes laid out by hand."""
    if encoding in ("nv12", "nv21"):
        height += height % 2
    rng = np.random.default_rng(height * width + padding)
    y = rng.integers(16, 236, (height, width), dtype=np.uint8)
    rows_per_chroma = 2 if encoding in ("nv12", "nv21") else 1
    columns_per_chroma = 1 if encoding == "nv24" else 2
    shape = (height // rows_per_chroma, width // columns_per_chroma)
    u, v = (rng.integers(16, 241, shape, dtype=np.uint8) for _ in range(2))

    def padded(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.pad(rows, ((0, 0), (0, padding)), constant_values=77)

    if encoding.startswith("nv"):
        first, second = (v, u) if encoding == "nv21" else (u, v)
        chroma = np.dstack([first, second]).reshape(shape[0], -1)
        # The chroma rows of nv24 are twice as long, and so is their padding.
        chroma = padded(padded(chroma)) if encoding == "nv24" else padded(chroma)
        data, step = padded(y).tobytes() + chroma.tobytes(), width + padding
    else:
        parts = (u, y[:, ::2], v, y[:, 1::2]) if encoding in ("yuv422", "uyvy") else (y[:, ::2], u, y[:, 1::2], v)
        rows = np.dstack(parts).reshape(height, -1)
        data, step = padded(rows).tobytes(), 2 * width + padding
    whole_u, whole_v = (p.repeat(rows_per_chroma, 0).repeat(columns_per_chroma, 1) for p in (u, v))
    rgb = decode(encoding, height, width, step, False, data)
    assert rgb.shape == (height, width, 3)
    assert np.abs(rgb.astype(int) - from_yuv(y, whole_u, whole_v)).max() <= 2


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("height", "width"), [(16, 24), (9, 11), (15, 8)])
@pytest.mark.parametrize("pattern", BAYER)
def test_patterns_in_bayer_against_bilinear_interpolation(pattern: str, height: int, width: int, bits: int) -> None:
    mosaic = np.random.default_rng(5).integers(0, 256, (height, width), dtype=np.uint8)
    cell = np.array(BAYER[pattern])
    channel = np.tile(cell, (height // 2 + 1, width // 2 + 1))[:height, :width]
    kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], float)
    on_paper = np.empty((height, width, 3))
    for index in range(3):
        here = (channel == index).astype(float)
        mean = cv2.filter2D(mosaic * here, -1, kernel) / cv2.filter2D(here, -1, kernel)
        on_paper[..., index] = np.where(here > 0, mosaic, mean)
    stored = mosaic if bits == 8 else (mosaic.astype("<u2") << 8) + 200
    rgb = decode(f"bayer_{pattern}{bits}", height, width, width * bits // 8, False, stored.tobytes())
    # At the edge OpenCV repeats the nearest inner pixels.
    inner = np.s_[1:-1, 1:-1]
    assert np.abs(rgb.astype(float) - on_paper)[inner].max() <= 1
    assert np.array_equal(rgb[0, 1:-1], rgb[1, 1:-1])
    assert np.array_equal(rgb[:, -1], rgb[:, -2])


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("height", "width", "padding"), [(16, 24, 0), (9, 11, 6)])
@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name not in YUV and "bayer" not in name])
def test_patterns_keep_every_pixel(encoding: str, height: int, width: int, big: bool, padding: int) -> None:
    wide, letters = "16" in encoding, encoding.rstrip("0123456789")
    channels = {"rgb": 3, "bgr": 3, "rgba": 4, "bgra": 4, "mono": 1}.get(letters) or int(encoding[-1])
    pixels = np.random.default_rng(6).integers(0, 1 << (16 if wide else 8), (height, width, channels))
    stored = pixels.astype({(True, True): ">u2", (True, False): "<u2"}.get((wide, big), "u1"))
    rows = np.frombuffer(stored.tobytes(), np.uint8).reshape(height, -1)
    data = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    rgb = decode(encoding, height, width, data.shape[1], big, data.tobytes())
    upper = (pixels >> 8 if wide else pixels).astype(np.uint8)
    order = {1: [0, 0, 0], 3: [2, 1, 0], 4: [2, 1, 0]}[channels]  # "UC": as OpenCV has them
    order = [0, 1, 2] if letters.startswith("rgb") else order
    assert np.array_equal(rgb, upper[..., order])


def test_the_names_of_image_encodings_are_known() -> None:
    """sensor_msgs/image_encodings.hpp has these for cameras; `nv12`, `uyvy` and the like are drivers' own."""
    names = {f"{kind}{bits}" for kind in ("rgb", "rgba", "bgr", "bgra", "mono") for bits in (8, 16)}
    names |= {f"bayer_{pattern}{bits}" for pattern in BAYER for bits in (8, 16)}
    names |= {f"{bits}UC{channels}" for bits in (8, 16) for channels in (1, 3, 4)}
    names |= {"yuv422", "yuv422_yuy2", "uyvy", "yuyv", "nv21", "nv24", "nv12"}
    assert names <= set(ENCODINGS)


def test_rgb8_without_padding_is_not_copied() -> None:
    data = bytes(H * W * 3)
    assert np.shares_memory(decode("rgb8", H, W, W * 3, False, data), np.frombuffer(data, np.uint8))


@pytest.mark.parametrize(
    ("cause", "fields"),
    [
        ("empty", {"height": 0}),
        ("empty", {"data": b""}),
        ("size", {"height": 1 << 31}),
        ("size", {"width": 4}),
        ("step", {"step": W * 3 - 1}),
        ("step", {"step": 0}),
        ("data size", {"data": bytes(H * W * 3 - 1)}),
        ("data size", {"data": bytes(H * W * 3 + 1)}),
        ("encoding", {"encoding": "32FC1"}),
        ("encoding", {"encoding": "x" * 10_000}),
        ("size", {"encoding": "yuv422", "width": W - 1}),
        ("size", {"encoding": "nv12", "height": H - 1}),
        ("data size", {"encoding": "nv24"}),
    ],
)
def test_contradictions_are_named(cause: str, fields: dict[str, object]) -> None:
    sound = {"encoding": "rgb8", "height": H, "width": W, "step": W * 3, "big_endian": False, "data": bytes(H * W * 3)}
    with pytest.raises(BadImageError) as caught:
        decode(**(sound | fields))  # type: ignore[arg-type]
    assert caught.value.cause == cause
    assert len(str(caught.value)) < 700


@settings(max_examples=300)
@given(
    st.sampled_from(ENCODINGS), st.integers(0, 70), st.integers(0, 70), st.integers(0, 500), st.booleans(),
    st.integers(0, 20_000),
)  # fmt: skip
def test_whatever_the_fields_say_it_is_an_image_or_a_named_fault(
    encoding: str, height: int, width: int, step: int, big: bool, size: int
) -> None:
    for data in (bytes(size), bytes(step * height), bytes(step * height * 3 // 2), bytes(step * height * 3)):
        try:
            assert decode(encoding, height, width, step, big, data).shape == (height, width, 3)
        except BadImageError as error:
            assert error.cause in ("empty", "size", "step", "data size")


def test_compressed_pictures() -> None:
    picture = np.full((H, W, 3), RGB, np.uint8)
    bgr = np.ascontiguousarray(picture[..., ::-1])
    png, jpeg = (cv2.imencode(kind, bgr)[1].tobytes() for kind in (".png", ".jpg"))
    assert np.array_equal(decode_compressed("bgr8; png compressed bgr8", png), picture)
    assert np.abs(decode_compressed("jpeg", jpeg).astype(int) - RGB).max() <= 3
    # image_transport stores an rgb8 image as it is and says so.
    assert np.array_equal(decode_compressed("rgb8; png compressed rgb8", png), picture[..., ::-1])
    mono = cv2.imencode(".png", np.full((H, W), 77, np.uint8))[1].tobytes()
    assert np.array_equal(decode_compressed("mono8; png compressed", mono), np.full((H, W, 3), 77, np.uint8))
    for cause, data in (("empty", b""), ("compressed data", jpeg[:20]), ("compressed data", b"not a picture")):
        with pytest.raises(BadImageError) as caught:
            decode_compressed("jpeg", data)
        assert caught.value.cause == cause


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_image_bytes_are_the_array_row_by_row(dtype: type) -> None:
    pixels: NDArray[Any] = np.arange(12, dtype=dtype).reshape(3, 4)
    assert image_bytes(pixels).tobytes() == pixels.tobytes()
    assert image_bytes(pixels[:, ::2]).tobytes() == pixels[:, ::2].copy().tobytes()


@pytest.mark.parametrize(
    ("encoding", "kind", "channels"),
    [
        ("mono8", "u1", 1), ("8UC1", "u1", 1), ("mono16", "u2", 1), ("16UC1", "u2", 1), ("16SC1", "i2", 1),
        ("32SC1", "i4", 1), ("32FC1", "f4", 1), ("64FC2", "f8", 2), ("rgb16", "u2", 3),
    ],
)  # fmt: skip
def test_stored_values_with_padding_in_either_byte_order(encoding: str, kind: str, channels: int) -> None:
    values = np.arange(100, 100 + 12 * channels).reshape(3, 4, channels).astype(kind)
    values = values[..., 0] if channels == 1 else values
    for order, big in (("<", 0), (">", 1)):
        rows = np.frombuffer(values.astype(order + kind).tobytes(), np.uint8).reshape(3, -1)
        data = np.pad(rows, ((0, 0), (0, 5)), constant_values=9)
        stored = SimpleNamespace(
            height=3, width=4, step=data.shape[1], encoding=encoding, is_bigendian=big, data=data.reshape(-1)
        )
        found = message_to_array(stored)
        assert found.dtype == values.dtype
        assert np.array_equal(found, values)
    assert np.array_equal(message_to_array(SimpleNamespace(**array_fields(values, encoding))), values)


def test_a_compressed_label_keeps_its_depth() -> None:
    values = np.array([[0, 1, 255], [256, 12000, 65535]], np.uint16).repeat(8, axis=0).repeat(8, axis=1)
    message = SimpleNamespace(format="png", data=cv2.imencode(".png", values)[1].tobytes())
    found = message_to_array(message)
    assert found.dtype == np.uint16
    assert np.array_equal(found, values)
    assert message_to_rgb(message).dtype == np.uint8


def test_fields_refuse_an_array_of_another_type() -> None:
    with pytest.raises(Vl4adError, match="mono8"):
        array_fields(np.zeros((8, 10, 3), np.uint8), "mono8")


CV_BRIDGE = """
import cv2, numpy as np
{first}
class CvBridge:
    def imgmsg_to_cv2(self, message, desired_encoding):
        codes = {{"bgr8": cv2.COLOR_BGR2RGB, "mono8": cv2.COLOR_GRAY2RGB, "bayer_rggb8": cv2.COLOR_BayerBG2RGB}}
        assert desired_encoding == "rgb8"
        shape = (message.height, message.width, message.step // message.width)
        pixels = np.ndarray(shape, np.uint8, message.data)
        print("used", message.encoding) if message.height == 16 else None
        return cv2.cvtColor(pixels, codes[message.encoding]) {last}
"""
PROGRAM = """
from vl4ad_ros.io.images import decode, decoder_name
shapes = {"bgr8": 3, "mono8": 1, "rgba8": 4}
pictures = [decode(name, 16, 8, 8 * n, False, bytes(range(128)) * n) for name, n in shapes.items()]
print(decoder_name(), [int(picture[1, 1, 0]) for picture in pictures])
"""


@pytest.mark.parametrize(
    ("first", "last", "used"),
    [
        ("", "", ["bgr8", "mono8"]),
        ("", "+ 1", []),  # It does not give what our decoder gives.
        ("raise AttributeError('_ARRAY_API not found')", "", []),
    ],
)
def test_cv_bridge_decodes_where_it_is_installed_and_works(
    first: str, last: str, used: list[str], tmp_path: Path
) -> None:
    (tmp_path / "cv_bridge.py").write_text(CV_BRIDGE.format(first=first, last=last))

    def run(**more: str) -> list[str]:
        command = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **more})
        return done.stdout.splitlines()

    *lines, result = run(PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]))
    assert lines == [f"used {encoding}" for encoding in used]
    name, values = result.split(" ", 1)
    assert name == ("cv_bridge" if used else "vl4ad_ros")
    rows = np.frombuffer(bytes(range(128)) * 4, np.uint8).reshape(16, 8, 4)
    assert values == str([int(rows.reshape(-1)[: 16 * 24].reshape(16, 8, 3)[1, 1, 2]), 9, int(rows[1, 1, 0])])
