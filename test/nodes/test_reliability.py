"""How images are heard: as their publishers offer them, or as a parameter says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_harness import Client, parameters, running
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vl4ad_ros.nodes import health
from vl4ad_ros.nodes.health import Summary
from vl4ad_ros.nodes.topics import camera_info_beside

DETECTOR = "vl4ad_ros.nodes.detector"
TOPIC = "/camera/image_raw"
REMAP = ("-r", f"image:={TOPIC}", "-r", f"image/compressed:={TOPIC}/compressed")
RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT


def publish(client: Client, reliability: ReliabilityPolicy, topic: str = TOPIC, message: type = Image) -> Any:
    return client.node.create_publisher(message, topic, QoSProfile(depth=10, reliability=reliability))


def wait_heard(client: Client, reliability: ReliabilityPolicy, topic: str = TOPIC, node: str = "detector") -> None:
    """Wait until a node hears a topic so, with one subscription."""

    def heard() -> bool:
        found = [info for info in client.node.get_subscriptions_info_by_topic(topic) if info.node_name == node]
        return [info.qos_profile.reliability for info in found] == [reliability]

    client.wait(f"{node} hears {topic} {reliability.name}", heard)


def test_it_follows_the_publishers(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    with running(DETECTOR, tmp_path / "log", *REMAP, *parameters(bundle=str(mock_bundle))) as process:
        wait_heard(client, RELIABLE)
        first = publish(client, BEST_EFFORT)
        wait_heard(client, BEST_EFFORT)
        publish(client, RELIABLE)
        client.node.destroy_publisher(first)
        wait_heard(client, RELIABLE)
        second = publish(client, BEST_EFFORT)
        wait_heard(client, BEST_EFFORT)
        client.node.destroy_publisher(second)
        wait_heard(client, RELIABLE)
        # As does the camera_info, beside the image.
        publish(client, BEST_EFFORT, "/camera/camera_info", CameraInfo)
        wait_heard(client, BEST_EFFORT, "/camera/camera_info")
        assert "incompatible" not in process.output(), "what is put right needs no warning"


def test_a_choice_holds_and_can_be_changed_while_it_runs(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    values = parameters(bundle=str(mock_bundle), image_reliability="reliable")
    with running(DETECTOR, tmp_path / "log", *REMAP, *values) as process:
        publish(client, BEST_EFFORT)
        client.wait("a warning", lambda: f"{TOPIC}: a publisher offers best effort only" in process.output())
        wait_heard(client, RELIABLE)
        assert client.set_parameter("image_reliability", "best_effort").successful
        wait_heard(client, BEST_EFFORT)
        refused = client.set_parameter("image_reliability", "perhaps")
        assert not refused.successful
        assert "image_reliability" in refused.reason


def overrides(path: Path, content: str) -> tuple[str, str]:
    path.write_text(f"/**:\n  ros__parameters:\n    qos_overrides:\n{content}")
    return "--params-file", str(path)


def test_a_parameter_file_overrides_the_quality_of_service(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    given = overrides(
        tmp_path / "qos.yaml",
        f"      {TOPIC}:\n        subscription: {{reliability: best_effort, depth: 3}}\n"
        "      /detector/uncertainty:\n        publisher: {reliability: best_effort}\n",
    )
    publish(client, RELIABLE)
    with running(DETECTOR, tmp_path / "log", *REMAP, *given, *parameters(bundle=str(mock_bundle))):
        wait_heard(client, BEST_EFFORT)
        client.wait(
            "a best-effort map",
            lambda: (
                [
                    info.qos_profile.reliability
                    for info in client.node.get_publishers_info_by_topic("/detector/uncertainty")
                ]
                == [BEST_EFFORT]
            ),
        )
        assert client.get_parameter(f"qos_overrides.{TOPIC}.subscription.depth") == 3
        # Neither the parameter nor another publisher changes what the file says; the camera_info follows all the same.
        assert client.set_parameter("image_reliability", "reliable").successful
        wait_heard(client, RELIABLE, "/camera/camera_info")
        wait_heard(client, BEST_EFFORT)


@pytest.mark.parametrize(
    ("topic", "text"),
    [
        (TOPIC, "subscription: {reliability: sometimes}"),
        (TOPIC, "subscription: {depth: many}"),
        ("/detector/uncertainty", "publisher: {depth: -1}"),
    ],
)
def test_an_override_that_cannot_be_is_named(
    mock_bundle: Path, tmp_path: Path, client: Client, topic: str, text: str
) -> None:
    given = overrides(tmp_path / "qos.yaml", f"      {topic}:\n        {text}\n")
    with running(DETECTOR, tmp_path / "log", *REMAP, *given, *parameters(bundle=str(mock_bundle))) as process:
        client.wait("an error", lambda: f"Topic {topic} (qos_overrides)" in process.output())
        assert client.state() in ("inactive", "unconfigured")
        assert "Traceback" not in process.output()


def test_the_overlay_hears_as_the_camera_publishes(tmp_path: Path, client: Client) -> None:
    client.hear(Image, "/overlay/image")
    publish(client, RELIABLE, f"{TOPIC}/compressed", CompressedImage)
    publish(client, BEST_EFFORT, "/detector/uncertainty")
    with running("vl4ad_ros.nodes.overlay", tmp_path / "log", *REMAP, *parameters(compressed=True)):
        wait_heard(client, RELIABLE, f"{TOPIC}/compressed", "overlay")
        wait_heard(client, BEST_EFFORT, "/detector/uncertainty", "overlay")
        publish(client, BEST_EFFORT, f"{TOPIC}/compressed", CompressedImage)
        wait_heard(client, BEST_EFFORT, f"{TOPIC}/compressed", "overlay")


@pytest.mark.parametrize("chosen", ["auto", "reliable"])
def test_the_recorder_hears_as_the_detector_publishes(tmp_path: Path, client: Client, chosen: str) -> None:
    publish(client, BEST_EFFORT, "/detector/uncertainty")
    more = ("--", str(tmp_path / "bag"), "--image-reliability", chosen)
    with running("vl4ad_ros.nodes.recorder", tmp_path / "log", *more):
        expected = BEST_EFFORT if chosen == "auto" else RELIABLE
        wait_heard(client, expected, "/detector/uncertainty", "recorder")
        wait_heard(client, RELIABLE, "/detector/anomaly_mask", "recorder")


@pytest.mark.parametrize(
    ("image", "info"),
    [
        ("/camera/image_raw", "/camera/camera_info"),
        ("/front/camera/image_raw/compressed", "/front/camera/camera_info"),
        ("/image", "/camera_info"),
    ],
)
def test_the_camera_info_beside_an_image(image: str, info: str) -> None:
    assert camera_info_beside(image) == info


@pytest.mark.parametrize(
    ("reliability", "choice", "cure"),
    [
        ("best_effort", "auto", "publish reliably"),
        ("best_effort", "best_effort", "image_reliability to auto"),
        ("reliable", "auto", "fastdds.xml"),
    ],
)
def test_lost_images_with_share_and_cure(reliability: str, choice: str, cure: str) -> None:
    def summary(**recent: int) -> Summary:
        return Summary(10.0, 10.0, {}, {key.replace("_", " "): n for key, n in recent.items()}, {}, {}, 0.0)

    assert health.lost_sentence(summary(received=9), reliability, choice) == ""
    sentence = health.lost_sentence(summary(received=9, lost_in_transport=3), reliability, choice)
    assert "3 of the last 12" in sentence
    assert "25%" in sentence
    assert cure in sentence
