"""What goes out besides the maps: camera_info, regions, overlay, several cameras, compressed input, simulated time."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from ros_harness import EARS, SENSOR, Client, image_message, map_pixels, parameters, plain, running
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header, String

from vl4ad_ros.nodes import messages
from vl4ad_ros.nodes.regions import Region

DETECTOR = "vl4ad_ros.nodes.detector"
REMAP = ("-r", "image:=/camera/image", "-r", "camera_info:=/camera/camera_info")


def half_blue() -> Any:
    """Red left (certain under `traffic`), blue right (0.5)."""
    picture = plain((255, 0, 0))
    picture[:, 48:] = (0, 0, 255)
    return picture


def test_camera_info_and_regions_belong_to_the_map(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    maps, _ = client.hear_results()
    infos = client.hear(CameraInfo, "/detector/camera_info")
    regions = client.hear(String, "/detector/regions")
    values = parameters(bundle=str(mock_bundle), prompt_set="traffic", threshold=0.4, output_size="mask")
    with running(DETECTOR, tmp_path / "log", *REMAP, *values):
        client.wait_connected()
        info = CameraInfo(height=64, width=96)
        info.k = [100.0, 0.0, 47.5, 0.0, 100.0, 31.5, 0.0, 0.0, 1.0]
        info_sender = client.sender("/camera/camera_info", CameraInfo)
        second = 0
        while not infos or not regions:
            second += 1
            info_sender.publish(info)
            client.send_until_heard(image_message(half_blue(), stamp=(second, 7), frame_id="lens"), maps)
            assert second < 60
        client.wait("regions of the last frame", lambda: json.loads(regions[-1].data)["stamp"]["sec"] == second)
    uncertainty = maps[-1]
    assert (uncertainty.height, uncertainty.width) == (16, 24)
    out = infos[-1]
    assert (out.height, out.width, out.header.frame_id) == (16, 24, "lens")
    assert list(out.k) == pytest.approx([25.0, 0, 11.5, 0, 25.0, 7.5, 0, 0, 1])
    found = json.loads(regions[-1].data)
    assert found["frame_id"] == "lens"
    (region,) = found["regions"]
    assert (region["x"], region["y"], region["width"], region["height"]) == (12, 0, 12, 16)
    assert region["mean"] == pytest.approx(0.5, abs=1e-4)


def test_two_cameras_keep_their_frames_apart(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    front, rear = client.hear_results("front")[0], client.hear_results("rear")[0]
    values = parameters(
        bundle=str(mock_bundle), prompt_set="traffic", cameras=["front", "rear"], batch_wait_ms=50.0, max_batch=2
    )
    with running(DETECTOR, tmp_path / "log", *values):
        client.wait_connected("/front/image")
        client.wait_connected("/rear/image")
        for second in range(1, 6):
            red = image_message(plain((255, 0, 0)), stamp=(second, 1), frame_id="front_lens")
            blue = image_message(plain((0, 0, 255), 96, 128), stamp=(second, 2), frame_id="rear_lens")
            client.sender("/rear/image").publish(blue)
            one = client.send_until_heard(red, front, "/front/image")
            two = client.send_until_heard(blue, rear, "/rear/image")
            assert (one.header.frame_id, two.header.frame_id) == ("front_lens", "rear_lens")
            assert map_pixels(one).mean() < 0.3
            assert map_pixels(two) == pytest.approx(0.5, abs=1e-4)
            assert map_pixels(two).shape == (96, 128)


def test_compressed_input_and_overlay(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    maps, _ = client.hear_results()
    pictures = client.hear(Image, "/overlay/image")
    jpegs = client.hear(CompressedImage, "/overlay/image/compressed", EARS)
    remap = ("-r", "image/compressed:=/camera/image/compressed")
    values = parameters(bundle=str(mock_bundle), prompt_set="traffic", threshold=0.4, compressed=True)
    encoded = cv2.imencode(".png", np.ascontiguousarray(half_blue()[..., ::-1]))[1].tobytes()
    with (
        running(DETECTOR, tmp_path / "log", *remap, *values),
        running("vl4ad_ros.nodes.overlay", tmp_path / "overlay.log", *remap, *parameters(compressed=True)) as overlay,
    ):
        topic = "/camera/image/compressed"
        client.wait_connected(topic, CompressedImage)
        sender = client.sender(topic, CompressedImage)
        client.wait("overlay and detector at the camera", lambda: sender.get_subscription_count() == 2)
        for second in range(1, 120):
            message = CompressedImage(format="rgb8; png compressed bgr8", data=encoded)
            message.header = Header(frame_id="lens")
            message.header.stamp.sec = second
            client.send_until_heard(message, maps, topic)
            if pictures and jpegs:
                break
        assert pictures, overlay.output()
    picture = pictures[-1]
    assert (picture.encoding, picture.header.frame_id, picture.height, picture.width) == ("rgb8", "lens", 64, 96)
    drawn = np.frombuffer(picture.data, np.uint8).reshape(64, 96, 3)
    # Below the caption: half the camera's colour under the uncertainty's; blue is lit, red is darkened.
    assert drawn[56:62, 60:90, 2].mean() > 100
    assert drawn[56:62, 10:40, 2].mean() < drawn[56:62, 60:90, 2].mean()
    shown = cv2.imdecode(np.frombuffer(jpegs[-1].data, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown.shape == (64, 96, 3)
    assert "Traceback" not in overlay.output()


def test_simulated_time_gives_ages_and_survives_a_jump_back(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    maps, _ = client.hear_results()
    told = client.hear_prompt_set()
    diagnostics = client.hear_diagnostics()
    clock = client.node.create_publisher(Clock, "/clock", SENSOR)
    values = parameters(bundle=str(mock_bundle), prompt_set="traffic", use_sim_time=True)
    with running(DETECTOR, tmp_path / "log", *REMAP, *values):
        client.wait_connected()
        client.wait("the clock's listener", lambda: clock.get_subscription_count() > 0)

        def at(second: int) -> None:
            now = Clock()
            now.clock.sec, now.clock.nanosec = second, 500_000_000
            for _ in range(3):
                clock.publish(now)
                client.spin(0.05)
            client.send_until_heard(image_message(plain((255, 0, 0)), stamp=(second, 0)), maps)

        def said(text: str) -> bool:
            return any(text in s.message or any(text in v.key for v in s.values) for a in diagnostics for s in a.status)

        def since(second: int) -> bool:
            return bool(json.loads(told[-1].data)["since"] == {"": {"sec": second, "nanosec": 0}})

        at(100)
        client.wait("since when the set holds", lambda: since(100))
        at(101)
        client.wait("an age", lambda: said("results are 500 ms old"))
        at(50)
        client.wait("the jump in the diagnostics", lambda: said("time jumped back"))
        client.wait("since when the set holds after the jump", lambda: since(50))
        at(0)  # no stamp at all
        client.wait("the zero stamp in the diagnostics", lambda: said("zero stamp"))


@dataclass
class StandIn:
    """Records fields like a message of vision_msgs, which is on no registry: only its field names are here."""

    header: Any = None
    id: str = ""
    threshold: float = 0.0
    class_id: Any = None
    class_name: str = ""
    method: str = ""
    database_location: str = ""
    database_version: int = 0
    score: float = 0.0
    size_x: float = 0.0
    size_y: float = 0.0
    detections: list[Any] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    bbox: Any = None
    hypothesis: Any = None

    def __post_init__(self) -> None:
        centre = SimpleNamespace(position=SimpleNamespace(x=0.0, y=0.0))
        self.bbox = SimpleNamespace(center=centre, size_x=0.0, size_y=0.0)
        self.hypothesis = SimpleNamespace(class_id="", score=0.0)


def test_regions_fill_vision_msgs_fields() -> None:
    names = ("Detection2DArray", "Detection2D", "ObjectHypothesisWithPose", "LabelInfo", "VisionClass", "VisionInfo")
    vision_msgs = SimpleNamespace(**dict.fromkeys(names, StandIn))
    array = messages.regions_detections(vision_msgs, Header(frame_id="c"), [Region(10, 20, 4, 6, 24, 0.5, 0.75)])
    (detection,) = array.detections
    assert (detection.bbox.center.position.x, detection.bbox.center.position.y) == (12.0, 23.0)
    assert (detection.bbox.size_x, detection.bbox.size_y) == (4.0, 6.0)
    (result,) = detection.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ("anomaly", 0.5)
    info = messages.vision_info(vision_msgs, Header(), "vl4ad", "/detector/prompt_set", 7)
    assert (info.database_version, info.database_location) == (7, "/detector/prompt_set")
