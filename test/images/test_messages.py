"""Messages to arrays and back: RGB for the network, stored values for maps and labels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.images import array_fields, message_to_array, message_to_rgb

RGB = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)


def message(pixels: Any, encoding: str, **changes: Any) -> Any:
    return SimpleNamespace(**{**array_fields(pixels, encoding), **changes})


@pytest.mark.parametrize(
    ("encoding", "stored"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("8UC3", RGB[..., ::-1]),
        ("rgba8", np.dstack([RGB, RGB[..., 0]])),
        ("bgra8", np.dstack([RGB[..., ::-1], RGB[..., 0]])),
        ("rgb16", RGB.astype(np.uint16) * 257),
    ],
)
def test_colour_encodings_keep_every_pixel(encoding: str, stored: np.ndarray[Any, Any]) -> None:
    assert np.array_equal(message_to_rgb(message(stored, encoding)), RGB)


@pytest.mark.parametrize(("encoding", "factor"), [("mono8", 1), ("mono16", 257)])
def test_mono_becomes_grey(encoding: str, factor: int) -> None:
    grey = RGB[..., 0]
    stored = (grey.astype(np.uint16) * factor).astype(np.uint8 if factor == 1 else np.uint16)
    assert np.array_equal(message_to_rgb(message(stored, encoding)), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("encoding", ["yuv422_yuy2", "uyvy", "bayer_rggb8"])
def test_a_grey_card_stays_grey_through_camera_encodings(encoding: str) -> None:
    shape = (8, 10) if encoding.startswith("bayer") else (8, 10, 2)
    grey = message_to_rgb(message(np.full(shape, 128, np.uint8), encoding))
    assert np.abs(grey.astype(int) - 130).max() <= 4  # 128 in video range is 130 in full range.


def test_bayer_red_site_is_red() -> None:
    mosaic = np.zeros((8, 8), np.uint8)
    mosaic[0::2, 0::2] = 200  # RGGB: the even sites of even rows see red.
    inner = message_to_rgb(message(mosaic, "bayer_rggb8"))[3:5, 3:5].reshape(-1, 3)
    assert inner[:, 0].min() == 200
    assert inner[:, 1:].max() == 0


def test_padded_rows_are_cut() -> None:
    padded = np.zeros((8, 40), np.uint8)
    padded[:, :30] = RGB.reshape(8, 30)
    padded[:, 30:] = 77
    assert np.array_equal(message_to_rgb(message(RGB, "rgb8", step=40, data=padded.reshape(-1))), RGB)


def test_float_maps_come_back_bit_for_bit() -> None:
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    assert np.array_equal(message_to_array(message(values, "32FC1")), values)


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


def test_a_compressed_image_is_decoded() -> None:
    png = cv2.imencode(".png", RGB[..., ::-1])[1]
    assert np.array_equal(message_to_rgb(SimpleNamespace(format="png", data=png.tobytes())), RGB)
    grey = cv2.imencode(".png", RGB[..., 0])[1]
    assert np.array_equal(message_to_rgb(SimpleNamespace(format="png", data=grey.tobytes()))[..., 2], RGB[..., 0])


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (SimpleNamespace(**{**vars(message(RGB, "rgb8")), "encoding": "h264"}), "expected one of .*, got 'h264'"),
        (message(RGB, "rgb8", height=0), "is empty"),
        (message(RGB, "rgb8", data=np.zeros(0, np.uint8)), "is empty"),
        (message(RGB, "rgb8", step=29), "takes 30 bytes, but its step is 29"),
        (message(RGB, "rgb8", data=np.zeros(100, np.uint8)), "has 100 bytes, but step . rows is 30 . 8"),
        (message(RGB, "rgb8", height=2**31), "expected sides from 8 to 16384"),
        (SimpleNamespace(format="jpeg", data=b"no picture"), "are not a picture"),
        (SimpleNamespace(format="jpeg", data=b""), "is empty"),
        (message(np.zeros((8, 8), np.float32), "32FC1"), "got '32FC1'"),
    ],
)
def test_a_broken_image_is_one_sentence(broken: Any, sentence: str) -> None:
    with pytest.raises(Vl4adError, match=sentence):
        message_to_rgb(broken)


def test_fields_refuse_an_array_of_another_type() -> None:
    with pytest.raises(Vl4adError, match="is no image with encoding 'mono8'"):
        array_fields(RGB, "mono8")


def test_a_compressed_label_keeps_its_depth() -> None:
    values = np.array([[0, 1, 255], [256, 12000, 65535]], np.uint16).repeat(8, axis=0).repeat(8, axis=1)
    png = cv2.imencode(".png", values)[1]
    found = message_to_array(SimpleNamespace(format="png", data=png.tobytes()))
    assert found.dtype == np.uint16
    assert np.array_equal(found, values)
    assert message_to_rgb(SimpleNamespace(format="png", data=png.tobytes())).dtype == np.uint8
