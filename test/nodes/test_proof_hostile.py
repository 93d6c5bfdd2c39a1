"""Hostile messages over DDS: no crash, and every good frame in between is answered.

By command the long form: VL4AD_HOSTILE=10000 python -m pytest test/nodes/test_proof_hostile.py
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from mock_bundle import red_uncertainty
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.serialization import serialize_message
from ros_harness import Client, image_message, map_pixels, parameters, plain, running
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vl4ad_ros.io.images import ENCODINGS

MESSAGES = int(os.environ.get("VL4AD_HOSTILE", "300"))
SEED = int(os.environ.get("VL4AD_SEED", "20240917"))
BURST = 50
NUMBERS = (0, 1, 2, 7, 8, 63, 64, 96, 255, 4096, 16384, 16385, 65535, 2**31 - 1, 2**31, 2**32 - 1)
TEXTS = ("", " ", "rgb8 ", "RGB8", "\x00", "\n", "☠" * 50, "x" * 5000, "../../etc", "%s%n", "32FC1", "64FC4")


def hostile_image(rng: random.Random) -> Image:
    """A good image with one to all fields gone wrong."""
    height, width = rng.choice((8, 48, 64)), rng.choice((8, 96, 128))
    message = image_message(plain((1, 2, 3), height, width), stamp=(rng.randrange(100), rng.randrange(10**9)))
    for field in rng.sample(
        ("height", "width", "step", "encoding", "data", "is_bigendian", "stamp", "frame_id"), rng.randint(1, 8)
    ):
        if field in ("height", "width", "step"):
            setattr(message, field, rng.choice((*NUMBERS, height, width, width * 3, rng.randrange(2**32))))
        elif field == "encoding":
            message.encoding = rng.choice((*TEXTS, *ENCODINGS))
        elif field == "data":
            message.data = rng.randbytes(rng.choice((0, 1, 100, height * width * 3 - 1, height * width * 3, 70_000)))
        elif field == "is_bigendian":
            message.is_bigendian = rng.randrange(256)
        elif field == "stamp":
            message.header.stamp.sec = rng.choice((-(2**31), -1, 0, 2**31 - 1))
            message.header.stamp.nanosec = rng.choice((0, 10**9, 2**32 - 1))
        else:
            message.header.frame_id = rng.choice(TEXTS)
    return message


def hostile_bytes(rng: random.Random) -> bytes:
    """A serialized image, cut, with bytes changed, or with its text no longer UTF-8."""
    raw = bytearray(serialize_message(image_message(plain((1, 2, 3), 8, 8), frame_id="camera")))
    kind = rng.randrange(3)
    if kind == 0:
        return bytes(raw[: rng.randrange(4, len(raw))])
    if kind == 1:
        for _ in range(rng.randint(1, 8)):
            raw[rng.randrange(4, 60)] = rng.randrange(256)
    else:
        raw[16:22] = b"\xff\xfe\x80\xc3\x28\xff"
    return bytes(raw)


def hostile_info(rng: random.Random) -> CameraInfo:
    info = CameraInfo(height=rng.choice(NUMBERS), width=rng.choice(NUMBERS), binning_x=rng.choice(NUMBERS))
    info.k = [rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e300)) for _ in range(9)]
    info.roi.x_offset, info.roi.width = rng.choice(NUMBERS), rng.choice(NUMBERS)
    return info


def hostile_info_bytes(rng: random.Random) -> bytes:
    """A serialized camera_info, cut, or with bytes changed."""
    raw = bytearray(serialize_message(CameraInfo(height=64, width=96, distortion_model="plumb_bob", d=[0.1] * 5)))
    if rng.randrange(2):
        return bytes(raw[: rng.randrange(4, len(raw))])
    for _ in range(rng.randint(1, 8)):
        raw[rng.randrange(4, 60)] = rng.randrange(256)
    return bytes(raw)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("compressed", [False, True])
def test_hostile_messages_never_stop_the_node(
    compressed: bool, mock_bundle: Path, tmp_path: Path, client: Client
) -> None:
    rng = random.Random(SEED)
    topic = "/camera/image/compressed" if compressed else "/camera/image"
    message_type: Any = CompressedImage if compressed else Image
    remap = ("-r", f"image{'/compressed' if compressed else ''}:={topic}", "-r", "camera_info:=/camera/camera_info")
    values = parameters(bundle=str(mock_bundle), prompt_set="traffic", compressed=compressed)
    with running("vl4ad_ros.nodes.detector", tmp_path / "log", *remap, *values) as process:
        maps, _ = client.hear_results()
        client.hear(CameraInfo, "/detector/camera_info")
        client.wait_connected(topic, message_type)
        sender, infos = client.sender(topic, message_type), client.sender("/camera/camera_info", CameraInfo)
        count = MESSAGES // 3 if compressed else MESSAGES
        for number in range(count):
            if compressed:
                sender.publish(hostile_compressed(rng))
            else:
                sender.publish(hostile_bytes(rng) if rng.random() < 0.3 else hostile_image(rng))
            if number % 5 == 0:
                infos.publish(hostile_info(rng) if rng.random() < 0.7 else hostile_info_bytes(rng))
            client.spin(0.002)
            if number % BURST == BURST - 1:
                stamp = (1_000_000 + number, 5)
                good: Any = image_message(plain((255, 0, 0)), stamp=stamp, frame_id=f"good {number}")
                result = client.send_until_heard(as_png(good) if compressed else good, maps, topic)
                assert result.header == good.header
                assert map_pixels(result) == pytest.approx(red_uncertainty(), abs=1e-3)
                del maps[:]
                # Of other messages and requests, `test_guard.py` has more.
                unknown = Parameter(name="threshold", value=ParameterValue(type=rng.randrange(10, 256)))
                request = SetParameters.Request(parameters=[unknown])
                assert not client.call(SetParameters, "set_parameters", request).results[0].successful
            assert process.alive()
    assert "Traceback" not in process.output()


def as_png(image: Image) -> CompressedImage:
    import cv2
    import numpy as np

    pixels = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)
    encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
    return CompressedImage(header=image.header, format="rgb8; png compressed bgr8", data=encoded)


def hostile_compressed(rng: random.Random) -> CompressedImage:
    """A PNG with bytes changed or cut, noise, or a header that announces an absurd size."""
    message = as_png(image_message(plain((1, 2, 3), 16, 16), stamp=(rng.randrange(100), 0)))
    data = bytearray(message.data)
    kind = rng.randrange(4)
    if kind == 0:
        data = data[: rng.randrange(len(data))]
    elif kind == 1:
        data[rng.randrange(len(data))] ^= 1 + rng.randrange(255)
    elif kind == 2:
        data = bytearray(rng.randbytes(rng.randrange(2000)))
    else:
        data[16:24] = rng.randbytes(8)  # width and height
    message.data = bytes(data)
    message.format = rng.choice(("jpeg", "", "☠", "x" * 1000, "rgb8; png compressed rgb8"))
    return message
