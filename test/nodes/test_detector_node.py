"""One running detector over DDS: values, stamps, live settings, bad input, what goes along, diagnostics, topics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mock_bundle import red_uncertainty
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParameters
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import ReliabilityPolicy
from ros_harness import (
    ROOT,
    SENSOR,
    Client,
    Process,
    cameras,
    diagnostic_values,
    image_message,
    map_pixels,
    plain,
    publish,
    wait_heard,
)
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Float64, String

from vl4ad_ros.io.images import decoder_name
from vl4ad_ros.nodes.health import STAGES
from vl4ad_ros.nodes.topics import TOPICS
from vl4ad_ros.runtime.settings import PARAMETERS

RED = plain((255, 0, 0))
RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
# What every ROS node has besides.
EVERY_NODE = {"/parameter_events", "/rosout", "/clock", "/detector/transition_event"}
# No two frames of this module have one stamp.
SECONDS = count(1)

pytestmark = pytest.mark.usefixtures("detector")


def answer(client: Client, maps: list[Any], pixels: Any = RED) -> Image:
    """The map of a frame with a new stamp."""
    message: Image = client.send_until_heard(image_message(pixels, stamp=(next(SECONDS), 7), frame_id="lens"), maps)
    return message


def half_blue() -> Any:
    """Red left (certain under `traffic`), blue right (neither stop nor go, cosine 0 with both: 0.5)."""
    picture = RED.copy()
    picture[:, 48:] = (0, 0, 255)
    return picture


def camera_value(diagnostics: list[Any], key: str) -> int:
    return int(diagnostic_values(diagnostics, "detector: camera image").get(key, 0))


def test_a_request_of_very_many_parameters_is_refused_as_a_whole(client: Client) -> None:
    before = client.get_parameter("threshold")
    many = [Parameter("threshold", value=0.123).to_parameter_msg()] * 5000
    results = client.call(SetParameters, "set_parameters", SetParameters.Request(parameters=many)).results
    assert len(results) == 5000
    assert not any(result.successful for result in results)
    assert client.get_parameter("threshold") == before


def test_a_pipe_or_a_huge_file_as_prompt_set_is_refused(client: Client, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    with (tmp_path / "huge.safetensors").open("wb") as stream:
        stream.truncate(1 << 36)
    for name in ("pipe", "huge"):
        result = client.set_parameter("prompt_set", f"{tmp_path}/{name}.safetensors")
        assert not result.successful and name in result.reason


def test_values_stamps_and_frame_ids(client: Client) -> None:
    maps, masks = client.hear_results()
    client.wait_connected()
    sent = image_message(half_blue(), stamp=(-5, 999_999_999), frame_id="mästerkamera ☂")
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


def test_live_settings_act_on_the_next_frame_and_wrong_ones_change_nothing(client: Client) -> None:
    maps, masks = client.hear_results()
    published = client.hear_prompt_set()
    client.wait_connected()

    def uncertainty() -> float:
        return float(map_pixels(answer(client, maps)).mean())

    assert uncertainty() == pytest.approx(red_uncertainty(), abs=1e-5)
    for name, value, reason in (
        ("prompt_set", "nonsense", "expected one of ['greys', 'merged', 'traffic', 'traffic_ood'], got 'nonsense'"),
        ("scoring", "best", "got 'best'"),
        ("image_reliability", "perhaps", "image_reliability"),
        ("threshold", 2.0, ""),
        ("threshold", float("nan"), ""),
        ("available_prompt_sets", ["mine"], "read-only"),
        ("prompt_set", "/nowhere/missing.safetensors", "missing.safetensors"),
        ("bundle", "other", "cleanup"),
    ):
        refused = client.set_parameter(name, value)
        assert not refused.successful
        assert reason in refused.reason
    assert client.get_parameter("prompt_set") == "traffic"
    assert client.get_parameter("available_prompt_sets") == ["greys", "merged", "traffic", "traffic_ood"]
    assert uncertainty() == pytest.approx(red_uncertainty(), abs=1e-5)

    assert client.set_parameter("temperature", 0.5).successful
    assert uncertainty() == pytest.approx(red_uncertainty(0.5), abs=1e-5)
    assert client.set_parameter("temperature", 0.0).successful
    assert client.set_parameter("prompt_set", "merged").successful
    # stop and go are one class with the cosine 1; the OOD column yellow has 1/sqrt(2).
    assert uncertainty() == pytest.approx(1 - 1 / (1 + np.exp(2**-0.5 - 1)), abs=1e-5)
    assert client.set_parameter("threshold", 0.1).successful
    result = answer(client, maps)
    last, before_last = result.header.stamp.sec, result.header.stamp.sec - 1
    assert client.wait("a mask", lambda: [m for m in masks if m.header.stamp.sec == last])
    assert set(np.unique(map_pixels(masks[-1]))) == {255}

    def with_a_stamp() -> Any:
        newest = json.loads(published[-1].data)
        # The first frame with it: the last, or one that the frame before was sent again with.
        since = newest["since"].get("", {}).get("sec")
        return newest if newest["threshold"] == 0.1 and since in (before_last, last) else None

    newest = client.wait("the prompt set's stamp", with_a_stamp)
    assert (newest["name"], newest["threshold_from"]) == ("merged", "given")
    assert [entry["name"] for entry in newest["previous"]][-1] == "merged"


@pytest.mark.usefixtures("detector")
def test_a_file_of_parameters_is_one_swap_at_most(client: Client) -> None:
    published = client.hear_prompt_set()
    names = client.call(ListParameters, "list_parameters", ListParameters.Request()).result.names
    values = client.call(GetParameters, "get_parameters", GetParameters.Request(names=names)).values
    dump = dict(zip(names, map(parameter_value_to_python, values), strict=True))
    dump["prompt_set"] = "merged"

    def swap_after_load(**changes: object) -> int:
        dump.update({key: value for key, value in changes.items() if key in dump})
        all_of_it = [Parameter(name, value=value).to_parameter_msg() for name, value in dump.items()]
        client.call(SetParameters, "set_parameters", SetParameters.Request(parameters=all_of_it))
        # What was set last of several would make a swap of its own.
        client.wait("it in force", lambda: published and changes.items() <= json.loads(published[-1].data).items())
        return int(json.loads(published[-1].data)["swap"])

    first = swap_after_load(name="merged")
    changes = {"scoring": "max_logit", "threshold": 0.25, "output_size": "mask"}
    assert swap_after_load(**changes) == first + 1
    assert swap_after_load(**changes) == first + 1


def test_bad_input_is_counted_and_the_next_good_frame_is_answered(client: Client, detector: Process) -> None:
    maps, _ = client.hear_results()
    diagnostics = client.hear_diagnostics()
    client.wait_connected()
    bad_stamp = (next(SECONDS), 0)
    empty, short_step = image_message(RED, bad_stamp), image_message(RED, bad_stamp)
    empty.data = b""
    short_step.step = 7

    def counted(cause: str, message: Image) -> bool:
        # Again and again: best effort may lose one.
        client.sender().publish(message)
        return camera_value(diagnostics, f"bad: {cause}") > 0

    unknown = image_message(RED, bad_stamp, encoding="x\x01y")
    for cause, message in (("empty", empty), ("encoding", unknown), ("step", short_step)):
        client.wait(f"{cause} in the diagnostics", partial(counted, cause, message))
        answer(client, maps)
    assert all(m.header.stamp.sec != bad_stamp[0] for m in maps)
    assert "Unknown encoding" in detector.output()


def test_camera_info_and_regions_belong_to_the_map(client: Client) -> None:
    maps, _ = client.hear_results()
    infos = client.hear(CameraInfo, "/detector/camera_info")
    regions = client.hear(String, "/detector/regions")
    client.wait_connected()
    assert client.set_parameter("threshold", 0.4).successful
    assert client.set_parameter("output_size", "mask").successful
    info = CameraInfo(height=64, width=96, k=[100.0, 0.0, 47.5, 0.0, 100.0, 31.5, 0.0, 0.0, 1.0])

    def sent() -> bool:
        client.sender("/camera/camera_info", CameraInfo).publish(info)
        answer(client, maps, half_blue())
        return bool(infos and regions)

    client.wait("camera_info and regions", sent)
    assert (maps[-1].height, maps[-1].width) == (16, 24)
    out = infos[-1]
    assert (out.height, out.width, out.header.frame_id) == (16, 24, "lens")
    assert list(out.k) == pytest.approx([25.0, 0, 11.5, 0, 25.0, 7.5, 0, 0, 1])
    found = json.loads(regions[-1].data)
    assert found["frame_id"] == "lens"
    (region,) = found["regions"]
    assert (region["x"], region["y"], region["width"], region["height"]) == (12, 0, 12, 16)
    assert region["mean"] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize(("message", "topic"), [(CameraInfo, "camera_info"), (Float64, "debug/engine_ms")])
def test_who_hears_only_what_goes_along_hears_it(message: type, topic: str, client: Client) -> None:
    heard = client.hear(message, f"/detector/{topic}")
    client.wait_connected()

    def sent() -> list[Any]:
        client.sender("/camera/camera_info", CameraInfo).publish(CameraInfo(height=64, width=96))
        client.sender().publish(image_message(RED, stamp=(next(SECONDS), 0)))
        return heard

    client.wait(topic, sent)


def test_diagnostics_name_what_runs_and_what_it_costs(client: Client) -> None:
    client.hear_results()
    diagnostics = client.hear_diagnostics()
    client.wait_connected()

    def stages() -> bool:
        client.sender().publish(image_message(RED, stamp=divmod(time.time_ns(), 10**9)))
        return "age median (ms)" in diagnostic_values(diagnostics, "detector: camera image")

    client.wait("diagnostics of a frame", stages)
    engine, camera = (diagnostic_values(diagnostics, f"detector: {part}") for part in ("engine", "camera image"))
    assert (engine["backend"], engine["device"], engine["bundle"]) == ("onnxruntime", "cpu", "mock")
    assert (engine["prompt set"], engine["scoring"], engine["method"]) == ("traffic", "vl4ad", "vl4ad")
    assert int(engine["swap"]) >= 1
    assert engine["library"].startswith("onnxruntime ")
    assert engine["model"].endswith("model.onnx")
    assert engine["decoder"] == decoder_name()
    for stage in STAGES:
        assert float(camera[f"{stage} median (ms)"]) <= float(camera[f"{stage} p95 (ms)"])
    assert float(camera["rate in (Hz)"]) > 0 < float(camera["rate out (Hz)"])
    assert int(camera["received"]) >= int(camera["published"]) >= 1


def test_simulated_time_gives_ages_and_survives_a_jump_back(client: Client) -> None:
    client.hear_results()
    published = client.hear_prompt_set()
    diagnostics = client.hear_diagnostics()
    clock = client.node.create_publisher(Clock, "/clock", SENSOR)
    client.wait_connected()
    assert client.set_parameter("use_sim_time", True).successful
    client.wait("the clock's listener", lambda: clock.get_subscription_count() > 0)

    def wait_at(second: int, what: str, done: Callable[[], bool]) -> None:
        """Publish the time and a frame of half a second ago, until something is so."""
        now = Clock()
        now.clock.sec, now.clock.nanosec = second, 500_000_000

        def so() -> bool:
            clock.publish(now)
            client.sender().publish(image_message(RED, stamp=(second, 0)))
            return done()

        client.wait(what, so)

    def shown(text: str) -> bool:
        return any(text in s.message or any(text in v.key for v in s.values) for a in diagnostics for s in a.status)

    def since(second: int) -> bool:
        return bool(published and json.loads(published[-1].data)["since"] == {"": {"sec": second, "nanosec": 0}})

    wait_at(100, "since when the set holds", lambda: since(100))
    wait_at(101, "an age", lambda: shown("results are 500 ms old"))
    del diagnostics[:]
    wait_at(50, "the jump in the diagnostics", lambda: shown("time jumped back ("))
    wait_at(50, "since when the set holds after the jump", lambda: since(50))
    wait_at(0, "the zero stamp in the diagnostics", lambda: shown("zero stamp"))


def test_nobody_listens_switched_off_and_limited_rate(client: Client) -> None:
    diagnostics = client.hear_diagnostics()
    client.wait_connected()

    def more(cause: str, number: int) -> Callable[[], bool]:
        client.wait("diagnostics", lambda: diagnostic_values(diagnostics, "detector: camera image"))
        before = camera_value(diagnostics, cause)
        return lambda: camera_value(diagnostics, cause) >= before + number

    with cameras(["/camera/image"], 64, 96):
        client.wait("frames skipped as nobody listens", more("nobody listens", 5))
        assert client.set_parameter("enabled", False).successful
        maps, _ = client.hear_results()
        client.wait("frames dropped as disabled", more("disabled", 5))
        assert maps == []
        assert client.set_parameter("max_rate", 2.0).successful
        assert client.set_parameter("enabled", True).successful
        client.wait("frames over the rate", more("max_rate", 20))
        client.wait("results", lambda: maps)


def test_a_raised_rate_acts_at_once(client: Client) -> None:
    maps, _ = client.hear_results()
    client.wait_connected()
    for rate in (0.002, 50.0, 0.002, 0.0, 0.002):
        # After a result under 0.002 Hz, the next one is due in 500 s, after the deadline.
        assert client.set_parameter("max_rate", rate).successful
        before = len(maps)

        def answered(before: int = before) -> bool:
            client.sender().publish(image_message(RED, stamp=(next(SECONDS), 0)))
            return len(maps) > before

        client.wait(f"a result after the rate became {rate}", answered)


def test_images_are_heard_as_their_publishers_offer_or_as_chosen(client: Client, detector: Process) -> None:
    topic = "/camera/image"
    publish(client, RELIABLE, topic)
    wait_heard(client, RELIABLE, topic)
    first = publish(client, BEST_EFFORT, topic)
    wait_heard(client, BEST_EFFORT, topic)
    client.node.destroy_publisher(first)
    wait_heard(client, RELIABLE, topic)
    publish(client, BEST_EFFORT, topic)
    wait_heard(client, BEST_EFFORT, topic)
    # As is the camera_info, beside the image.
    publish(client, BEST_EFFORT, "/camera/camera_info", CameraInfo)
    wait_heard(client, BEST_EFFORT, "/camera/camera_info")
    assert "incompatible" not in detector.output(), "what is put right needs no warning"
    assert client.set_parameter("image_reliability", "reliable").successful
    wait_heard(client, RELIABLE, topic)
    client.wait("a warning", lambda: f"{topic}: a publisher offers best effort only" in detector.output())
    assert client.set_parameter("image_reliability", "best_effort").successful
    wait_heard(client, BEST_EFFORT, topic)


def test_the_tables_of_the_docs_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "generate_node_docs.py"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, f"{checked.stdout}{checked.stderr}run scripts/generate_node_docs.py"
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    for name in (*(p.name for p in PARAMETERS), *(t.name for t in TOPICS if "/debug/" not in t.name)):
        assert f"`{name}`" in page


def test_the_running_node_is_as_declared(client: Client) -> None:
    node = client.node

    def topics() -> dict[str, str]:
        sent = dict(node.get_publisher_names_and_types_by_node("detector", "/"))
        heard = dict(node.get_subscriber_names_and_types_by_node("detector", "/"))
        return {"out " + k: v[0] for k, v in sent.items() if k not in EVERY_NODE} | {
            "in " + k: v[0] for k, v in heard.items() if k not in EVERY_NODE
        }

    own = {"image": "/camera/image", "camera_info": "/camera/camera_info"}
    declared = {
        f"{t.direction} {own.get(t.name, t.name.replace('~/', '/detector/'))}": t.types[0]
        for t in TOPICS
        if not t.needs
    }
    client.wait("all topics", lambda: topics() == declared)

    listed = client.call(ListParameters, "list_parameters", ListParameters.Request()).result.names
    names = [parameter.name for parameter in PARAMETERS]
    assert sorted(
        n for n in listed if not n.startswith(("use_sim_time", "qos_", "start_type", "available_prompt_sets"))
    ) == sorted(names)
    described = client.call(DescribeParameters, "describe_parameters", DescribeParameters.Request(names=names))
    values = client.call(GetParameters, "get_parameters", GetParameters.Request(names=names)).values
    for parameter, descriptor, value in zip(PARAMETERS, described.descriptors, values, strict=True):
        assert descriptor.description == parameter.full_description
        ranges = [(r.from_value, r.to_value) for r in (*descriptor.integer_range, *descriptor.floating_point_range)]
        assert ranges == ([] if parameter.low is None else [(parameter.low, parameter.high)])
        if parameter.name not in ("bundle", "prompt_set"):
            texts = {1: value.bool_value, 2: value.integer_value, 3: value.double_value, 4: value.string_value}
            assert texts.get(value.type, list(value.string_array_value)) == parameter.default
