"""The detector node over DDS in its own process: values, stamps, live settings, lifecycle, bad input."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from mock_bundle import red_uncertainty
from ros_harness import DEADLINE_S, Client, Process, image_message, map_pixels, parameters, plain, running
from sensor_msgs.msg import Image

DETECTOR = "vl4ad_ros.nodes.detector"
REMAP = ("-r", "image:=/camera/image", "-r", "camera_info:=/camera/camera_info")


@pytest.fixture
def node(mock_bundle: Path, tmp_path: Path) -> Iterator[Process]:
    with running(
        DETECTOR, tmp_path / "detector.log", *REMAP, *parameters(bundle=str(mock_bundle), prompt_set="traffic")
    ) as process:
        yield process


def test_values_stamps_and_frame_ids(node: Process, client: Client) -> None:
    maps, masks = client.hear_results()
    client.wait_connected()
    picture = plain((255, 0, 0))
    picture[:, 48:] = (0, 0, 255)  # blue: neither stop nor go, cosine 0 with both
    sent = image_message(picture, stamp=(-5, 999_999_999), frame_id="mästerkamera ☂")
    result = client.send_until_heard(sent, maps)
    mask = client.wait("the mask", lambda: next((m for m in masks if m.header.stamp == sent.header.stamp), None))
    for message in (result, mask):
        assert message.header == sent.header
        assert (message.height, message.width) == (64, 96)
    values = map_pixels(result)
    assert (result.encoding, result.step) == ("32FC1", 96 * 4)
    assert values[:, :40] == pytest.approx(red_uncertainty(), abs=1e-5)
    assert values[:, 56:] == pytest.approx(0.5, abs=1e-5)
    assert (mask.encoding, mask.step) == ("mono8", 96)
    assert set(np.unique(map_pixels(mask)[:, :40])) == {0}


def test_live_settings_act_on_the_next_frame_and_wrong_ones_change_nothing(node: Process, client: Client) -> None:
    maps, masks = client.hear_results()
    told = client.hear_prompt_set()
    client.wait_connected()
    red = plain((255, 0, 0))

    def uncertainty(second: int) -> float:
        message = client.send_until_heard(image_message(red, stamp=(second, 0)), maps)
        return float(map_pixels(message).mean())

    assert uncertainty(1) == pytest.approx(red_uncertainty(), abs=1e-5)
    refused = client.set_parameter("prompt_set", "nonsense")
    assert not refused.successful
    assert "expected one of ['greys', 'merged', 'traffic', 'traffic_ood'], got 'nonsense'" in refused.reason
    refused = client.set_parameter("scoring", "best")
    assert not refused.successful
    assert "got 'best'" in refused.reason
    assert not client.set_parameter("threshold", 2.0).successful
    assert client.get_parameter("prompt_set") == "traffic"
    assert uncertainty(2) == pytest.approx(red_uncertainty(), abs=1e-5)

    assert client.set_parameter("temperature", 0.5).successful
    assert uncertainty(3) == pytest.approx(red_uncertainty(0.5), abs=1e-5)
    assert client.set_parameter("temperature", 0.0).successful
    assert client.set_parameter("prompt_set", "merged").successful
    # stop and go are one class with the cosine 1; the OOD column yellow has 1/sqrt(2).
    assert uncertainty(4) == pytest.approx(1 - 1 / (1 + np.exp(2**-0.5 - 1)), abs=1e-5)
    assert client.set_parameter("threshold", 0.1).successful
    uncertainty(5)
    assert client.wait("a mask", lambda: [m for m in masks if m.header.stamp.sec == 5])
    assert set(np.unique(map_pixels(masks[-1]))) == {255}

    def with_a_stamp() -> Any:
        last = json.loads(told[-1].data)
        # The first frame with it: the fifth, or one that the fourth was sent again with.
        return last if last["threshold"] == 0.1 and last["since"].get("", {}).get("sec") in (4, 5) else None

    last = client.wait("the prompt set's stamp", with_a_stamp)
    assert (last["name"], last["threshold"]) == ("merged", 0.1)
    assert [entry["name"] for entry in last["previous"]][-1] == "merged"
    static = client.set_parameter("bundle", "other")
    assert not static.successful
    assert "cleanup" in static.reason


def test_lifecycle_configures_again_after_every_state(node: Process, client: Client, mock_bundle: Path) -> None:
    maps, _ = client.hear_results()
    client.wait_connected()
    red = plain((255, 0, 0))
    client.send_until_heard(image_message(red, stamp=(1, 0)), maps)
    assert client.state() == "active"
    assert client.change_state(Transition.TRANSITION_DEACTIVATE)
    assert client.state() == "inactive"
    assert client.change_state(Transition.TRANSITION_ACTIVATE)
    client.send_until_heard(image_message(red, stamp=(2, 0)), maps)
    assert client.change_state(Transition.TRANSITION_DEACTIVATE)
    assert client.change_state(Transition.TRANSITION_CLEANUP)
    assert client.state() == "unconfigured"
    assert client.set_parameter("bundle", "/nowhere").successful
    assert not client.change_state(Transition.TRANSITION_CONFIGURE)
    assert client.state() == "unconfigured"
    assert "There is no model bundle '/nowhere'" in node.output()
    assert client.set_parameter("bundle", str(mock_bundle)).successful
    assert client.change_state(Transition.TRANSITION_CONFIGURE)
    assert client.change_state(Transition.TRANSITION_ACTIVATE)
    client.send_until_heard(image_message(red, stamp=(3, 0)), maps)
    assert "Traceback" not in node.output()


def test_bad_input_is_counted_and_the_next_good_frame_is_answered(node: Process, client: Client) -> None:
    maps, _ = client.hear_results()
    diagnostics = client.hear_diagnostics()
    client.wait_connected()
    good = image_message(plain((255, 0, 0)), stamp=(1, 0))
    client.send_until_heard(good, maps)
    empty = image_message(plain((255, 0, 0)), stamp=(2, 0))
    empty.data = b""
    unknown = image_message(plain((255, 0, 0)), stamp=(2, 0), encoding="x\x01y")
    short_step = image_message(plain((255, 0, 0)), stamp=(2, 0))
    short_step.step = 7

    def counted(cause: str, message: Image) -> bool:
        # Again and again: best effort may lose one.
        client.sender().publish(message)
        return any(
            value.key == f"bad: {cause}"
            for array in diagnostics
            for status in array.status
            if status.name == "detector: camera image"
            for value in status.values
        )

    for cause, message in (("empty", empty), ("encoding", unknown), ("step", short_step)):
        client.wait(f"{cause} in the diagnostics", partial(counted, cause, message))
        client.send_until_heard(image_message(plain((0, 255, 0)), stamp=(10 + len(maps), 0)), maps)
    assert all(m.header.stamp.sec != 2 for m in maps)
    assert node.alive()
    assert "Traceback" not in node.output()
    assert "Unknown encoding" in node.output()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (parameters(bundle="/nowhere"), "There is no model bundle '/nowhere'"),
        (parameters(bundle="{mock}", prompt_set="none"), "Unknown prompt set for bundle 'mock'"),
        (parameters(bundle="{mock}", backend="abacus"), "expected one of"),
        (parameters(bundle="{mock}", roi_masks=["/nowhere.png"]), "cannot be read as an image"),
        (parameters(bundle="{mock}", cameras=["a", "a"]), "a name stands twice"),
    ],
)
def test_a_fault_at_the_start_is_a_sentence_and_the_node_stays(
    arguments: list[str], sentence: str, mock_bundle: Path, tmp_path: Path, client: Client
) -> None:
    filled = [argument.replace("{mock}", str(mock_bundle)) for argument in arguments]
    diagnostics = client.hear_diagnostics()
    with running(DETECTOR, tmp_path / "log", *REMAP, *filled) as process:
        client.wait(
            "the fault in the diagnostics",
            lambda: any(sentence in status.message for array in diagnostics for status in array.status),
        )
        assert client.state() == "unconfigured"
    assert sentence in process.output()
    assert "Traceback" not in process.output()


def test_a_parameter_of_the_wrong_type_ends_the_start_with_a_sentence(tmp_path: Path) -> None:
    with running(DETECTOR, tmp_path / "log", *parameters(threshold="high")) as process:
        assert process.popen.wait(DEADLINE_S) == 2
    assert "threshold" in process.output()
    assert "Traceback" not in process.output()
