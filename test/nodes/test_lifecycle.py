"""The detector's life: transitions, static parameters, faults at the start, overrides of profiles, memory, names."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from rclpy.qos import ReliabilityPolicy
from ros_harness import (
    DEADLINE_S,
    DETECTOR,
    REMAP,
    Client,
    diagnostic_values,
    environment,
    image_message,
    in_diagnostics,
    parameters,
    plain,
    publish,
    running,
    wait_heard,
)
from sensor_msgs.msg import CompressedImage

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.cuda import CudaDevice
from vl4ad_ros.runtime.tensorrt_library import load_library

RED = plain((255, 0, 0))
CONFIGURE, ACTIVATE = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
DEACTIVATE, CLEANUP = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP
RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT


def own_memory(pid: int) -> int:
    """Bytes of a process's own, not those of files."""
    line = next(li for li in Path(f"/proc/{pid}/status").read_text().splitlines() if li.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def test_every_transition_and_the_memory_given_back(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    maps, _ = client.hear_results()
    published = client.hear_prompt_set()
    values = parameters(bundle=str(mock_bundle), prompt_set="traffic", autostart=False, max_rate=100)
    with running(DETECTOR, tmp_path / "log", *REMAP, *values) as process:
        assert client.state() == "unconfigured"
        assert client.get_parameter("max_rate") == 100.0  # given as an integer
        # Libraries that the first configuration loads stay.
        assert client.change_state(CONFIGURE)
        assert client.change_state(CLEANUP)
        at_first = own_memory(process.popen.pid)
        assert client.change_state(CONFIGURE)
        # What is in force is published while inactive, too.
        client.wait("the set in force", lambda: published and json.loads(published[-1].data)["name"] == "traffic")
        assert client.set_parameter("prompt_set", "merged").successful
        client.wait("the set after the swap", lambda: json.loads(published[-1].data)["name"] == "merged")
        assert client.state() == "inactive"
        for second in range(1, 4):
            assert client.change_state(ACTIVATE)
            client.wait_connected()
            large = image_message(plain((255, 0, 0), 1080, 1920), stamp=(second, 0))
            client.send_until_heard(large, maps)
            assert client.change_state(DEACTIVATE)
        at_work = own_memory(process.popen.pid)
        assert client.change_state(CLEANUP)
        in_the_end = own_memory(process.popen.pid)
        assert client.state() == "unconfigured"
        assert client.change_state(CONFIGURE)
        assert client.change_state(ACTIVATE)
        client.wait_connected()
        client.send_until_heard(image_message(RED, stamp=(5, 0)), maps)
    assert "Traceback" not in process.output()
    for line in ("Configured: ", "Activated: hearing /camera/image", "Deactivated", "Cleaned up"):
        assert line in process.output()
    assert at_work - at_first > 20e6, "the frames left no memory that could be given back"
    assert in_the_end - at_first < 0.5 * (at_work - at_first)


def test_a_fault_is_a_sentence_the_node_stays_and_can_be_configured(
    mock_bundle: Path, tmp_path: Path, client: Client
) -> None:
    maps, _ = client.hear_results()
    diagnostics = client.hear_diagnostics()
    good = {"bundle": str(mock_bundle), "prompt_set": "", "backend": "onnxruntime", "roi_masks": [""], "cameras": [""]}
    faults: list[tuple[str, object, str]] = [
        ("prompt_set", "none", "Unknown prompt set for bundle 'mock'"),
        ("roi_masks", ["/nowhere.png"], "no file /nowhere.png"),
        ("roi_masks", ["/a.png", "/b.png"], "2 for 1 cameras"),
    ]
    with running(DETECTOR, tmp_path / "log", *REMAP, *parameters(bundle="/nowhere")) as process:
        sentence = "There is no model bundle '/nowhere'"
        client.wait("the fault in the diagnostics", partial(in_diagnostics, diagnostics, sentence))
        assert client.state() == "unconfigured"
        assert sentence in process.output()
        assert client.set_parameter("bundle", str(mock_bundle)).successful
        for name, value, sentence in faults:
            assert client.set_parameter(name, value).successful
            assert not client.change_state(CONFIGURE)
            client.wait(f"the fault of {name} in the diagnostics", partial(in_diagnostics, diagnostics, sentence))
            assert client.state() == "unconfigured"
            assert client.set_parameter(name, good[name]).successful
        for name, wrong in (("backend", "abacus"), ("cameras", ["a", "a"])):
            assert not client.set_parameter(name, wrong).successful
        assert client.change_state(CONFIGURE)
        assert client.change_state(ACTIVATE)
        client.wait_connected()
        client.send_until_heard(image_message(RED), maps)
    assert "Traceback" not in process.output()


@pytest.mark.parametrize("kind", ["png16", "jpeg"])
def test_the_compressed_map_is_the_map(kind: str, mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    heard = client.hear(CompressedImage, "/detector/uncertainty/compressed")
    values = parameters(bundle=str(mock_bundle), prompt_set="traffic", uncertainty_format=kind)
    with running(DETECTOR, tmp_path / "log", *REMAP, *values):
        client.wait_connected()
        message = client.send_until_heard(image_message(plain((0, 0, 255)), frame_id="lens"), heard)
    pixels = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    dtype, encoding = (np.uint16, "mono16; png") if kind == "png16" else (np.uint8, "mono8; jpeg")
    assert (pixels.dtype.name, pixels.shape, message.header.frame_id) == (dtype.__name__, (64, 96), "lens")
    assert message.format.startswith(encoding)
    assert pixels / np.iinfo(dtype).max == pytest.approx(0.5, abs=1e-4 if kind == "png16" else 0.01)


FAULTS_AT_START = pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("threshold", "high", "threshold"),
        ("threshold", 7.0, "threshold"),
        ("cameras", "front", "cameras"),
        ("treshold", 0.5, "did you mean 'threshold'"),
        ("backend", "abacus", "backend: "),
        ("bundle", "/nowhere", "/nowhere"),
        ("qos_overrides./image.subscription.reliability", "sometimes", "qos_overrides"),
    ],
)


@FAULTS_AT_START
def test_a_fault_at_the_start_leaves_the_node_unconfigured(
    name: str, value: object, sentence: str, mock_bundle: Path, tmp_path: Path, client: Client
) -> None:
    diagnostics = client.hear_diagnostics()
    given = parameters(**{"bundle": str(mock_bundle), name: value})
    with running(DETECTOR, tmp_path / "log", *given) as process:
        client.wait("the fault in the diagnostics", lambda: in_diagnostics(diagnostics, sentence))
        assert client.state() == "unconfigured"
        if not name.startswith("qos"):
            assert not client.change_state(CONFIGURE)
    assert sentence in process.output()
    assert "Traceback" not in process.output()


@FAULTS_AT_START
def test_with_exit_on_fault_it_ends_the_process(
    name: str, value: object, sentence: str, mock_bundle: Path, tmp_path: Path
) -> None:
    given = parameters(**{"bundle": str(mock_bundle), "exit_on_fault": True, name: value})
    with running(DETECTOR, tmp_path / "log", *given) as process:
        assert process.popen.wait(DEADLINE_S) == 2
    assert sentence in process.output()
    assert "Traceback" not in process.output()


@pytest.mark.parametrize(("module", "parameter"), [(DETECTOR, "threshold"), ("vl4ad_ros.nodes.overlay", "max_width")])
def test_help_lists_the_parameters_and_starts_nothing(module: str, parameter: str) -> None:
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, env=environment(), check=False)
    assert done.returncode == 0
    assert f"  {parameter} (" in done.stdout


def overrides(path: Path, content: str) -> tuple[str, str]:
    path.write_text(f"/**:\n  ros__parameters:\n    qos_overrides:\n{content}")
    return "--params-file", str(path)


def test_a_parameter_file_overrides_the_quality_of_service(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    topic, remap = "/camera/image_raw", ("-r", "image:=/camera/image_raw")
    given = overrides(
        tmp_path / "qos.yaml",
        f"      {topic}:\n        subscription: {{reliability: best_effort, depth: 3}}\n"
        "      /detector/uncertainty:\n        publisher: {reliability: best_effort}\n",
    )
    publish(client, RELIABLE, topic)

    def map_reliabilities() -> list[ReliabilityPolicy]:
        found = client.node.get_publishers_info_by_topic("/detector/uncertainty")
        return [info.qos_profile.reliability for info in found]

    with running(DETECTOR, tmp_path / "log", *remap, *given, *parameters(bundle=str(mock_bundle))):
        wait_heard(client, BEST_EFFORT, topic)
        client.wait("a best-effort map", lambda: map_reliabilities() == [BEST_EFFORT])
        assert client.get_parameter(f"qos_overrides.{topic}.subscription.depth") == 3
        # Neither the parameter nor another publisher changes what the file says; the camera_info follows all the same.
        assert client.set_parameter("image_reliability", "reliable").successful
        wait_heard(client, RELIABLE, "/camera/camera_info")
        wait_heard(client, BEST_EFFORT, topic)


@pytest.mark.parametrize(
    ("topic", "text"),
    [("/camera/image", "subscription: {reliability: sometimes}"), ("/detector/uncertainty", "publisher: {depth: -1}")],
)
def test_an_override_that_cannot_be_is_named(
    mock_bundle: Path, tmp_path: Path, client: Client, topic: str, text: str
) -> None:
    given = overrides(tmp_path / "qos.yaml", f"      {topic}:\n        {text}\n")
    with running(DETECTOR, tmp_path / "log", *REMAP, *given, *parameters(bundle=str(mock_bundle))) as process:
        client.wait("an error", lambda: f"Topic {topic} (qos_overrides)" in process.output())
        assert client.state() in ("inactive", "unconfigured")
        assert "Traceback" not in process.output()


def test_a_detector_in_a_namespace_names_itself_and_a_missing_clock(mock_bundle: Path, tmp_path: Path) -> None:
    client = Client(detector="/front/detector")
    try:
        maps, _ = client.hear_results()
        diagnostics = client.hear_diagnostics()
        values = parameters(bundle=str(mock_bundle), prompt_set="traffic", use_sim_time=True)
        with running(DETECTOR, tmp_path / "log", "-r", "__ns:=/front", *REMAP, *values):
            client.wait_connected()

            def named() -> bool:
                client.sender().publish(image_message(RED, stamp=(7, 0)))
                camera = diagnostic_values(diagnostics, "front/detector: camera image")
                return "no /clock" in camera and "age median (ms)" not in camera

            client.wait("the missing clock in the diagnostics", named)
            assert diagnostic_values(diagnostics, "front/detector: engine")
            assert maps
    finally:
        client.close()


@pytest.fixture
def no_gpu() -> None:
    try:
        load_library("tensorrt_rtx")
    except Vl4adError as error:
        pytest.skip(str(error))
    try:
        CudaDevice().close()
    except Vl4adError:
        return
    pytest.skip("a GPU is here")


@pytest.mark.usefixtures("no_gpu")
def test_an_engine_is_built_only_if_that_is_asked_for(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    arguments = parameters(bundle=str(mock_bundle), prompt_set="traffic", backend="tensorrt_rtx")
    with running(DETECTOR, tmp_path / "log", *arguments) as node:
        client.wait("the command that builds it", lambda: "build it with: vl4ad export tensorrt" in node.output())
        assert client.set_parameter("auto_build", True).successful
        assert not client.change_state(CONFIGURE)
        # Without a GPU, building is where it ends; that it got so far is what is shown here.
        assert "No NVIDIA GPU can be used here" in node.output()
    assert not (mock_bundle / "engines").exists()


PROGRAM = """
import os, signal, sys, time, rclpy
from rclpy.node import Node
from vl4ad_ros.nodes.executor import run_node

def create():
    os.kill(os.getpid(), {signal})
    while rclpy.ok():  # until the signal has ended the context, or raised here
        time.sleep(0.01)
    return Node("late")

sys.exit(run_node(create, "late", []))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_is_no_fault(number: signal.Signals) -> None:
    command = [sys.executable, "-c", PROGRAM.format(signal=int(number))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, env=environment(), check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
