"""Every encoding: values on paper, padding, byte order, and the same pixels as rosbags-image gives."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rosbags.image import message_to_cvimage

from vl4ad_ros.nodes.images import ENCODINGS, BadImageError, decode, decode_compressed, image_bytes

H, W = 16, 24
RGB = (200, 120, 40)
# BT.601, studio swing, as OpenCV has it: Y = 16 + 0.257 R + 0.504 G + 0.098 B and so on.
Y, U, V = 132, 81, 169
PIXEL = {
    "rgb": RGB, "bgr": RGB[::-1], "rgba": (*RGB, 9), "bgra": (*RGB[::-1], 9), "mono": (77,),
    "8UC": (77,), "16UC": (77,),
}  # fmt: skip
BAYER = {"rggb": ((0, 1), (1, 2)), "bggr": ((2, 1), (1, 0)), "gbrg": ((1, 2), (0, 1)), "grbg": ((1, 0), (2, 1))}


def rows_of(encoding: str) -> NDArray[np.uint8]:
    """The bytes of a plain picture of the colour RGB (mono: 77), uint8 [rows, bytes per row], written by hand."""
    if encoding in ("yuv422", "uyvy"):
        return np.tile(np.array([U, Y, V, Y], np.uint8), (H, W // 2))
    if encoding in ("yuv422_yuy2", "yuyv", "yuy2"):
        return np.tile(np.array([Y, U, Y, V], np.uint8), (H, W // 2))
    if encoding in ("nv12", "nv21"):
        chroma = (U, V) if encoding == "nv12" else (V, U)
        return np.vstack([np.full((H, W), Y, np.uint8), np.tile(np.array(chroma, np.uint8), (H // 2, W // 2))])
    bits = 16 if "16" in encoding else 8
    if encoding.startswith("bayer_"):
        cell = np.array([[RGB[channel] for channel in row] for row in BAYER[encoding[6:10]]], np.uint8)
        pixels = np.tile(cell, (H // 2, W // 2))
    elif "UC" in encoding:
        pixels = np.tile(np.array({"1": (77,), "3": RGB[::-1], "4": (*RGB[::-1], 9)}[encoding[-1]], np.uint8), (H, W))
    else:
        pixels = np.tile(np.array(PIXEL[encoding.rstrip("0123456789")], np.uint8), (H, W))
    if bits == 16:
        wide = pixels.astype(np.uint16) * 257
        return np.frombuffer(wide.astype("<u2").tobytes(), np.uint8).reshape(H, -1)
    return pixels


def expected(encoding: str) -> tuple[int, int, int]:
    return (77, 77, 77) if encoding.startswith("mono") or encoding.endswith("UC1") else RGB


@pytest.mark.parametrize("padding", [0, 5, 64])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_with_and_without_padding(encoding: str, padding: int) -> None:
    rows = rows_of(encoding)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=171)
    for data in (padded.tobytes(), memoryview(padded.tobytes())):
        rgb = decode(encoding, H, W, padded.shape[1], False, data)
        assert rgb.shape == (H, W, 3)
        assert rgb.dtype == np.uint8
        tolerance = 3 if encoding in ("yuv422", "uyvy", "yuv422_yuy2", "yuyv", "yuy2", "nv12", "nv21") else 0
        assert np.abs(rgb.astype(int) - expected(encoding)).max() <= tolerance


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if "16" in name])
def test_big_endian(encoding: str) -> None:
    swapped = rows_of(encoding).reshape(H, -1, 2)[:, :, ::-1].copy()
    swapped[:, :, 1] = 0  # the low byte: 77 * 256 as big-endian is 77 * 257 to eight bits
    rgb = decode(encoding, H, W, swapped.shape[1] * 2, True, swapped.tobytes())
    assert np.array_equal(rgb, np.full((H, W, 3), expected(encoding), np.uint8))


@pytest.mark.parametrize(
    "encoding",
    ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "mono16", "bayer_rggb8", "bayer_gbrg8", "yuv422", "yuv422_yuy2"],
)
def test_the_same_as_rosbags_image(encoding: str) -> None:
    rng = np.random.default_rng(3)
    width = rows_of(encoding).shape[1]
    data = rng.integers(0, 256, (H, width), dtype=np.uint8)
    message = SimpleNamespace(
        encoding=encoding, height=H, width=W, step=width, is_bigendian=False, data=data.reshape(-1)
    )
    theirs = message_to_cvimage(message, "rgb8")  # type: ignore[arg-type]
    ours = decode(encoding, H, W, width, False, data.tobytes())
    # 16 bits: they round to 8 bits, we keep the upper byte.
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= (1 if encoding.endswith("16") else 0)


def test_rgb8_without_padding_is_not_copied() -> None:
    data = rows_of("rgb8").tobytes()
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
    ],
)
def test_contradictions_are_named(cause: str, fields: dict[str, object]) -> None:
    sound = {"encoding": "rgb8", "height": H, "width": W, "step": W * 3, "big_endian": False, "data": bytes(H * W * 3)}
    with pytest.raises(BadImageError) as caught:
        decode(**(sound | fields))  # type: ignore[arg-type]
    assert caught.value.cause == cause
    assert len(str(caught.value)) < 700


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(ENCODINGS), st.integers(0, 70), st.integers(0, 70), st.integers(0, 500), st.booleans(),
    st.integers(0, 20_000),
)  # fmt: skip
def test_whatever_the_fields_say_it_is_an_image_or_a_named_fault(
    encoding: str, height: int, width: int, step: int, big: bool, size: int
) -> None:
    for data in (bytes(size), bytes(step * height), bytes(step * height * 3 // 2)):
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
