"""What goes out besides the maps: camera_info, regions, overlay, several cameras, compressed input, simulated time."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import field, make_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from mock_bundle import ColourEncoder, mock_prompt_sets
from ros_harness import EARS, SENSOR, Client, image_message, map_pixels, parameters, plain, running
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header, String

from vl4ad_ros.nodes import messages
from vl4ad_ros.nodes.health import STAGES
from vl4ad_ros.prompts.compile import compile_prompt_set
from vl4ad_ros.runtime.regions import Region

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
        seconds = itertools.count(1)

        def sent() -> bool:
            info_sender.publish(info)
            client.send_until_heard(image_message(half_blue(), stamp=(next(seconds), 7), frame_id="lens"), maps)
            return bool(infos and regions)

        client.wait("camera_info and regions", sent)
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
        seconds = itertools.count(1)

        def sent() -> bool:
            message = CompressedImage(format="rgb8; png compressed bgr8", data=encoded)
            message.header = Header(frame_id="lens")
            message.header.stamp.sec = next(seconds)
            client.send_until_heard(message, maps, topic)
            return bool(pictures and jpegs)

        client.wait("pictures of the overlay", sent)
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
    client.hear_results()
    told = client.hear_prompt_set()
    diagnostics = client.hear_diagnostics()
    clock = client.node.create_publisher(Clock, "/clock", SENSOR)
    values = parameters(bundle=str(mock_bundle), prompt_set="traffic", use_sim_time=True)
    with running(DETECTOR, tmp_path / "log", *REMAP, *values):
        client.wait_connected()
        client.wait("the clock's listener", lambda: clock.get_subscription_count() > 0)

        def wait_at(second: int, what: str, done: Callable[[], bool]) -> None:
            """Tell the time and send a frame of half a second ago, until something is so."""
            now = Clock()
            now.clock.sec, now.clock.nanosec = second, 500_000_000

            def so() -> bool:
                clock.publish(now)
                client.sender().publish(image_message(plain((255, 0, 0)), stamp=(second, 0)))
                return done()

            client.wait(what, so)

        def said(text: str) -> bool:
            return any(text in s.message or any(text in v.key for v in s.values) for a in diagnostics for s in a.status)

        def since(second: int) -> bool:
            return bool(json.loads(told[-1].data)["since"] == {"": {"sec": second, "nanosec": 0}})

        wait_at(100, "since when the set holds", lambda: since(100))
        wait_at(101, "an age", lambda: said("results are 500 ms old"))
        wait_at(50, "the jump in the diagnostics", lambda: said("time jumped back"))
        wait_at(50, "since when the set holds after the jump", lambda: since(50))
        wait_at(0, "the zero stamp in the diagnostics", lambda: said("zero stamp"))


def vision_msgs_stand_in() -> SimpleNamespace:
    """The messages of vision_msgs 4, which is on no registry: their fields, and no others."""

    def message(name: str, **fields: Callable[[], Any]) -> Any:
        specification = [(key, Any, field(default_factory=make)) for key, make in fields.items()]
        return make_dataclass(name, specification, slots=True)

    point = message("Point2D", x=float, y=float)
    pose = message("Pose2D", position=point, theta=float)
    box = message("BoundingBox2D", center=pose, size_x=float, size_y=float)
    hypothesis = message("ObjectHypothesis", class_id=str, score=float)
    return SimpleNamespace(
        ObjectHypothesisWithPose=message("ObjectHypothesisWithPose", hypothesis=hypothesis, pose=object),
        Detection2D=message("Detection2D", header=Header, results=list, bbox=box, id=str),
        Detection2DArray=message("Detection2DArray", header=Header, detections=list),
        VisionClass=message("VisionClass", class_id=int, class_name=str),
        LabelInfo=message("LabelInfo", header=Header, class_map=list, threshold=float),
        VisionInfo=message("VisionInfo", header=Header, method=str, database_location=str, database_version=int),
    )


def test_regions_and_labels_fill_the_fields_of_vision_msgs() -> None:
    vision_msgs = vision_msgs_stand_in()
    array = messages.regions_detections(vision_msgs, Header(frame_id="c"), [Region(10, 20, 4, 6, 24, 0.5, 0.75)])
    (detection,) = array.detections
    assert (array.header.frame_id, detection.header.frame_id, detection.id) == ("c", "c", "0")
    assert (detection.bbox.center.position.x, detection.bbox.center.position.y) == (12.0, 23.0)
    assert (detection.bbox.size_x, detection.bbox.size_y) == (4.0, 6.0)
    hypotheses = [(result.hypothesis.class_id, result.hypothesis.score) for result in detection.results]
    assert hypotheses == [("anomaly", 0.5), ("anomaly_max", 0.75), ("anomaly_fill", 1.0)]
    # The overlay reads them back.
    half = Region(10, 20, 4, 6, 12, 0.5, 0.75)
    array = messages.regions_detections(vision_msgs, Header(), [half])
    assert messages.regions_of_detections(array) == [half]
    info = messages.vision_info(vision_msgs, Header(), "vl4ad", "/detector/prompt_set", 7)
    assert (info.database_version, info.database_location, info.method) == (7, "/detector/prompt_set", "vl4ad")
    compiled = compile_prompt_set(mock_prompt_sets()["merged"], ColourEncoder())
    labels = messages.label_info(vision_msgs, Header(), compiled, 0.7)
    assert [(one.class_id, one.class_name) for one in labels.class_map] == [(0, "light")]  # the OOD column is no class
    assert labels.threshold == 0.7


def test_diagnostics_say_what_runs_and_what_it_costs(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    client.hear_results()
    diagnostics = client.hear_diagnostics()
    with running(DETECTOR, tmp_path / "log", *REMAP, *parameters(bundle=str(mock_bundle), prompt_set="traffic")):
        client.wait_connected()

        def engine_and_camera() -> list[dict[str, str]]:
            client.sender().publish(image_message(half_blue(), stamp=divmod(time.time_ns(), 10**9)))
            newest = {s.name: {v.key: v.value for v in s.values} for array in diagnostics[-1:] for s in array.status}
            found = [newest.get(f"detector: {part}", {}) for part in ("engine", "camera image")]
            return found if "published" in found[1] else []

        engine, camera = client.wait("diagnostics of a frame", engine_and_camera)
    assert (engine["backend"], engine["device"], engine["bundle"]) == ("onnxruntime", "cpu", "mock")
    assert (engine["prompt set"], engine["scoring"], engine["method"], engine["swap"]) == (
        "traffic", "vl4ad", "vl4ad", "1",
    )  # fmt: skip
    assert engine["library"].startswith("onnxruntime ")
    assert engine["model"] == str(mock_bundle / "model.onnx")
    for stage in STAGES:
        assert 0 <= float(camera[f"{stage} median (ms)"]) <= float(camera[f"{stage} p95 (ms)"])
    assert float(camera["rate in (Hz)"]) > 0 < float(camera["rate out (Hz)"])
    assert int(camera["received"]) >= int(camera["published"]) >= 1
