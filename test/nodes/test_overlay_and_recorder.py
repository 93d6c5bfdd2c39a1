"""Overlay and recorder: pictures, bags, what they hear; and messages and requests that no node may end by."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from rclpy.duration import Duration
from rclpy.qos import ReliabilityPolicy
from rclpy.serialization import serialize_message
from ros_harness import (
    DEADLINE_S,
    DETECTOR,
    LATCHED,
    Client,
    Process,
    diagnostic_values,
    image_message,
    map_pixels,
    parameters,
    plain,
    publish,
    running,
    wait_heard,
)
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String

from vl4ad_ros.io.bag_reader import BagReader
from vl4ad_ros.io.bag_recovery import readable_bag

OVERLAY, RECORDER = "vl4ad_ros.nodes.overlay", "vl4ad_ros.nodes.recorder"
RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
ODD_NAMES = ["", "\x00", "a\x00b", "☠" * 500, "x" * 5000, "%s%n", "..", "use_sim_time"]
PROMPT_SET = {"name": "good", "version": "123456", "scoring": "vl4ad", "threshold": 0.5}
NO_PROMPT_SETS = ["no JSON", "[]", json.dumps({**PROMPT_SET, "threshold": float("nan")})]
UNKNOWN_TYPE = 255


def test_compressed_input_and_overlay(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    maps, _ = client.hear_results()
    pictures = client.hear(Image, "/overlay/image")
    jpegs = client.hear(CompressedImage, "/overlay/image/compressed")
    remap = ("-r", "image/compressed:=/camera/image/compressed")
    values = parameters(bundle=str(mock_bundle), prompt_set="traffic", threshold=0.4, compressed=True)
    half_blue = plain((255, 0, 0))
    half_blue[:, 48:] = (0, 0, 255)
    encoded = cv2.imencode(".png", np.ascontiguousarray(half_blue[..., ::-1]))[1].tobytes()
    with (
        running(DETECTOR, tmp_path / "log", *remap, *values),
        running(OVERLAY, tmp_path / "overlay.log", *remap, *parameters(compressed=True)) as overlay,
    ):
        topic = "/camera/image/compressed"
        client.wait_connected(topic, CompressedImage)
        sender = client.sender(topic, CompressedImage)
        client.wait("overlay and detector at the camera", lambda: sender.get_subscription_count() == 2)
        seconds = count(1)

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


def test_the_overlay_hears_as_the_camera_publishes(tmp_path: Path, client: Client) -> None:
    topic = "/camera/image_raw/compressed"
    client.hear(Image, "/overlay/image")
    publish(client, RELIABLE, topic, CompressedImage)
    publish(client, BEST_EFFORT, "/detector/uncertainty")
    remap = ("-r", f"image/compressed:={topic}")
    with running(OVERLAY, tmp_path / "log", *remap, *parameters(compressed=True)):
        wait_heard(client, RELIABLE, topic, "overlay")
        wait_heard(client, BEST_EFFORT, "/detector/uncertainty", "overlay")
        publish(client, BEST_EFFORT, topic, CompressedImage)
        wait_heard(client, BEST_EFFORT, topic, "overlay")


@pytest.mark.parametrize("chosen", ["auto", "reliable"])
def test_the_recorder_hears_as_the_detector_publishes(tmp_path: Path, client: Client, chosen: str) -> None:
    publish(client, BEST_EFFORT, "/detector/uncertainty")
    with running(RECORDER, tmp_path / "log", "--", str(tmp_path / "bag"), "--image-reliability", chosen):
        wait_heard(client, BEST_EFFORT if chosen == "auto" else RELIABLE, "/detector/uncertainty", "recorder")
        wait_heard(client, RELIABLE, "/detector/anomaly_mask", "recorder")


def parameter(name: str, kind: int, **value: Any) -> Parameter:
    return Parameter(name=name, value=ParameterValue(type=kind, **value))


def sim_time(on: bool) -> Parameter:
    return parameter("use_sim_time", ParameterType.PARAMETER_BOOL, bool_value=on)


def set_all(client: Client, *changes: Parameter) -> list[bool]:
    """Set parameters in one request; return whether each was, and check that what was not has a reason."""
    results = client.call(SetParameters, "set_parameters", SetParameters.Request(parameters=changes)).results
    assert all(result.successful or result.reason for result in results)
    return [result.successful for result in results]


def wait_handled(client: Client, *publishers: Any) -> None:
    """Wait until the node has had its turn with what was published: it answers a request that came later."""
    for publisher in publishers:
        assert publisher.wait_for_all_acked(Duration(seconds=DEADLINE_S))
    client.call(GetParameters, "get_parameters", GetParameters.Request(names=["use_sim_time"]))


def mistreat(client: Client, process: Process) -> None:
    """Send what makes rclpy's own callbacks raise."""
    bad = parameter("use_sim_time", UNKNOWN_TYPE)
    assert set_all(client, bad) == [False]
    changes = (sim_time(True), bad, parameter("nonsense\x00", UNKNOWN_TYPE), sim_time(True))
    assert set_all(client, *changes) == [True, False, False, True]
    request = SetParametersAtomically.Request(parameters=[sim_time(False), bad])
    result = client.call(SetParametersAtomically, "set_parameters_atomically", request).result
    assert (result.successful, bool(result.reason)) == (False, True)
    assert client.get_parameter("use_sim_time") is True
    client.call(DescribeParameters, "describe_parameters", DescribeParameters.Request(names=ODD_NAMES))
    client.call(GetParameters, "get_parameters", GetParameters.Request(names=ODD_NAMES))
    client.call(ListParameters, "list_parameters", ListParameters.Request(prefixes=ODD_NAMES, depth=2**64 - 1))
    negative = Clock()
    negative.clock.sec = -1
    clock = client.node.create_publisher(Clock, "/clock", 1)
    client.wait("the clock's listener", lambda: clock.get_subscription_count() > 0)

    def named() -> bool:
        clock.publish(negative)
        return "/clock" in process.output() or not process.alive()

    client.wait("the log names /clock", named)
    assert set_all(client, sim_time(False)) == [True]
    client.node.destroy_publisher(clock)
    assert process.alive(), process.output()


def test_the_detector_survives_counts_and_works_on(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    maps, _ = client.hear_results()
    diagnostics = client.hear_diagnostics()
    values = parameters(bundle=str(mock_bundle), prompt_set="traffic")
    with running(DETECTOR, tmp_path / "log", "-r", "image:=/camera/image", *values) as process:
        client.wait_connected()
        mistreat(client, process)
        for transition in (0, 5, 60, 255):
            assert not client.change_state(transition)
        assert client.state() == "active"
        client.wait(
            "the callback errors in /diagnostics",
            lambda: int(diagnostic_values(diagnostics, "detector: engine").get("callback errors", 0)) >= 5,
        )
        result = client.send_until_heard(image_message(plain((0, 0, 255))), maps)
        assert map_pixels(result) == pytest.approx(0.5, abs=1e-4)
        assert process.stop() == 0
    assert "Traceback" not in process.output()


class FakeDetector:
    """The topics of a detector, out of the test's hand."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.prompt_set = client.node.create_publisher(String, "/detector/prompt_set", LATCHED)
        self.maps = [client.node.create_publisher(Image, f"/detector/{n}", 10) for n in ("uncertainty", "anomaly_mask")]

    def publish_prompt_set(self, text: str) -> None:
        self.prompt_set.publish(String(data=text))
        wait_handled(self.client, self.prompt_set)

    def send(self, second: int, size: int = 8) -> None:
        """Send a map and a mask."""
        for publisher, encoding, dtype in zip(self.maps, ("32FC1", "mono8"), (np.float32, np.uint8), strict=True):
            message = image_message(np.zeros((size, 2 * size), dtype), (second, 0), "lens", encoding)
            publisher.publish(message)

    def wait_heard(self) -> None:
        for publisher in (self.prompt_set, *self.maps):
            self.client.wait("a listener", publisher.get_subscription_count)


def test_the_overlay_survives_and_draws_on(tmp_path: Path, client: Client) -> None:
    client.detector = "/overlay"
    pictures = client.hear(Image, "/overlay/image")
    detector, camera = FakeDetector(client), client.sender("/image")
    with running(OVERLAY, tmp_path / "log", *parameters(regions=False)) as process:
        detector.wait_heard()
        mistreat(client, process)
        detector.prompt_set.publish(serialize_message(String(data="ab")).replace(b"ab", b"\xff\xfe"))
        for text in (json.dumps(PROMPT_SET), *NO_PROMPT_SETS):
            detector.publish_prompt_set(text)
        client.wait("the camera's listener", lambda: camera.get_subscription_count() > 0)
        stamps = count(1)

        def drawn() -> bool:
            second = next(stamps)
            camera.publish(image_message(plain((255, 0, 0), 8, 16), stamp=(second, 0), frame_id="lens"))
            detector.send(second)
            return bool(pictures) or not process.alive()

        client.wait("a picture", drawn)
        assert pictures, process.output()
        assert process.stop() == 0
    # rclpy of Jazzy lets a task that was never started end with one, in its finalizer.
    faults = process.output().split("Traceback (most recent call last)")[1:]
    assert all("rclpy/task.py" in fault and "in __del__" in fault for fault in faults), process.output()


@contextmanager
def recording(client: Client, folder: Path) -> Iterator[tuple[Process, FakeDetector]]:
    """A recorder that hears a prompt set, and its detector; the bag is FOLDER/bag."""
    client.detector = "/recorder"
    detector = FakeDetector(client)
    with running(RECORDER, folder / "log", "--", str(folder / "bag")) as process:
        detector.wait_heard()
        detector.publish_prompt_set(json.dumps(PROMPT_SET))
        yield process, detector


def test_the_recorder_survives_and_finishes_its_bag(tmp_path: Path, client: Client) -> None:
    with recording(client, tmp_path) as (process, detector):
        detector.send(1)
        mistreat(client, process)
        wait_handled(client, *detector.maps)
        detector.send(2)
        wait_handled(client, *detector.maps)
        detector.maps[0].publish(b"no image")
        wait_handled(client, *detector.maps)
        # A second signal, as from a terminal and from a launch file, must not disturb the closing.
        process.popen.send_signal(signal.SIGTERM)
        process.popen.send_signal(signal.SIGINT)
        assert process.popen.wait(DEADLINE_S) == 0
    assert "Traceback" not in process.output()
    with BagReader(tmp_path / "bag") as bag:
        assert {topic: bag.count(topic) for topic in bag.topics()} == {
            "/detector/prompt_set": 1,
            "/detector/uncertainty": 3,
            "/detector/anomaly_mask": 2,
        }


def test_a_full_disk_ends_a_recording_with_a_sentence(tmp_path: Path, client: Client) -> None:
    with recording(client, tmp_path) as (process, detector):
        resource.prlimit(process.popen.pid, resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
        stamps = count(1)

        def ended() -> bool:
            detector.send(next(stamps), 256)
            return not process.alive()

        client.wait("its end", ended)
        assert process.popen.wait() == 2
    assert "recorder: The bag" in process.output()
    assert "Traceback" not in process.output()
    recovered, lost = readable_bag(tmp_path / "bag", tmp_path)
    assert lost
    assert recovered != tmp_path / "bag"
