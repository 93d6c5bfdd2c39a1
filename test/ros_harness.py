"""Real nodes in real processes over DDS, for tests: event-driven, with deadlines."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from numpy.typing import NDArray
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node, NodeNameNonExistentError
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from vl4ad_ros.io.images import image_bytes
from vl4ad_ros.nodes.memory import prepare_memory

# The sender's shared memory is what an image must fit in.
prepare_memory()
ROOT = Path(__file__).resolve().parent.parent
DETECTOR = "vl4ad_ros.nodes.detector"
REMAP = ("-r", "image:=/camera/image", "-r", "camera_info:=/camera/camera_info")
# For what must come, however busy the machine is; a quiet one needs a few seconds.
DEADLINE_S = 180.0
SENSOR = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
# The tests' ears keep everything: what a node sends is what they judge.
EARS = QoSProfile(depth=100, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def environment() -> dict[str, str]:
    """The environment of a node's process: the repository, and this test run's own DDS domain."""
    paths = [str(ROOT), str(ROOT / "test"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


class Process:
    """A node in its own process; its output is kept in a file."""

    def __init__(self, module: str, log: Path, *ros_args: str) -> None:
        self.log = log
        with log.open("wb") as stream:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", module, "--ros-args", *ros_args],
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment(),
                cwd=log.parent,
            )

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def alive(self) -> bool:
        return self.popen.poll() is None

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(DEADLINE_S)

    def stop(self) -> int:
        """End it as Ctrl-C does; return its exit status."""
        if self.alive():
            self.popen.send_signal(signal.SIGINT)
        try:
            return self.popen.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            raise


def parameters(**values: object) -> list[str]:
    """Parameters as command line arguments; `__` in a name stands for a dot."""
    arguments = []
    for name, value in values.items():
        # Texts are quoted, so that YAML takes no name for a number.
        arguments += ["-p", f"{name.replace('__', '.')}:={json.dumps(value)}"]
    return arguments


@contextlib.contextmanager
def running(module: str, log: Path, *ros_args: str) -> Iterator[Process]:
    process = Process(module, log, *ros_args)
    try:
        yield process
    finally:
        if process.alive():
            process.stop()


@contextlib.contextmanager
def cameras(topics: Sequence[str], height: int, width: int, start_s: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """Cameras at 30 Hz in a process of their own, stamped with the time of sending, or from a second on."""
    command = [sys.executable, "-m", "camera_process", *map(str, (height, width, start_s)), *topics]
    with subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            # Not killed: DDS would take its topics for alive for another 20 s.
            process.terminate()


class Client:
    """A test's own node: sends images, hears results, calls services."""

    def __init__(self, name: str = "test_client", detector: str = "/detector") -> None:
        self.detector = detector
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = Node(name, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.heard: dict[str, list[Any]] = {}
        self._senders: dict[str, Any] = {}
        self._services: dict[str, Any] = {}

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def spin(self, seconds: float = 0.05) -> None:
        self.executor.spin_once(timeout_sec=seconds)

    def wait(self, what: str, done: Callable[[], Any], deadline: float = DEADLINE_S) -> Any:
        """Spin until something is so; fail with its name at the deadline."""
        end = time.monotonic() + deadline
        while True:
            # The graph does not know a node yet: ask again.
            with contextlib.suppress(NodeNameNonExistentError):
                if value := done():
                    return value
            if time.monotonic() > end:
                raise AssertionError(f"waited {deadline:.0f} s in vain: {what}")
            self.spin()

    def hear(self, message: type, topic: str, qos: QoSProfile = EARS) -> list[Any]:
        """Collect a topic's messages in the list that is returned."""
        heard = self.heard.setdefault(topic, [])
        self.node.create_subscription(message, topic, heard.append, qos)
        return heard

    def hear_results(self, camera: str = "") -> tuple[list[Image], list[Image]]:
        prefix = f"{self.detector}/{camera}/" if camera else f"{self.detector}/"
        return self.hear(Image, prefix + "uncertainty"), self.hear(Image, prefix + "anomaly_mask")

    def hear_prompt_set(self) -> list[String]:
        return self.hear(String, f"{self.detector}/prompt_set", LATCHED)

    def hear_diagnostics(self) -> list[DiagnosticArray]:
        return self.hear(DiagnosticArray, "/diagnostics")

    def sender(self, topic: str = "/camera/image", message: type = Image) -> Any:
        if topic not in self._senders:
            self._senders[topic] = self.node.create_publisher(message, topic, SENSOR)
        return self._senders[topic]

    def wait_connected(self, topic: str = "/camera/image", message: type = Image) -> None:
        """Wait until the detector hears the topic and our ears are known to it, and both to us."""
        sender = self.sender(topic, message)
        self.wait(f"a subscriber of {topic}", lambda: sender.get_subscription_count() > 0)
        for heard in self.heard:
            self.wait(f"a publisher of {heard}", partial(self.node.count_publishers, heard))
        # Endpoints are made known in their order: who knows this newest one knows the topics' as well.
        self.node.destroy_client(self._greeted(GetParameters, f"{self.detector}/get_parameters"))

    def send_until_heard(self, image: Image | CompressedImage, heard: list[Any], topic: str = "/camera/image") -> Any:
        """Send an image again and again until a result with its stamp is heard (best effort may lose it)."""
        sender = self.sender(topic)

        def arrived() -> Any:
            return next((m for m in heard if m.header.stamp == image.header.stamp), None)

        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            sender.publish(image)
            again = time.monotonic() + 0.5
            while time.monotonic() < again:
                self.spin()
                if (message := arrived()) is not None:
                    return message
        raise AssertionError(f"no result for the image of stamp {image.header.stamp}")

    def call(self, service_type: type, name: str, request: Any) -> Any:
        full = f"{self.detector}/{name}"
        if full not in self._services:
            self._services[full] = self._greeted(service_type, full)
        future = self._services[full].call_async(request)
        self.wait(f"the answer of {full}", future.done)
        return future.result()

    def _greeted(self, service_type: Any, name: str) -> Any:
        """A new client, known to the service: one that has not discovered our ear yet gives no answer.

        It has asked for nothing until there was an answer to it.
        """
        client = self.node.create_client(service_type, name)
        self.wait(f"service {name}", client.service_is_ready)
        nothing = service_type.Request()
        if service_type is ChangeState:
            nothing.transition.label = "none"
        asked: dict[float, Any] = {}

        def answered() -> bool:
            now = time.monotonic()
            if now > max(asked, default=0.0) + 1.0:
                asked[now] = client.call_async(nothing)
            return any(future.done() for future in asked.values())

        self.wait(f"an answer of {name}", answered)
        return client

    def set_parameter(self, name: str, value: Any) -> SetParametersResult:
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        (result,) = self.call(SetParameters, "set_parameters", request).results
        return result

    def get_parameter(self, name: str) -> Any:
        (value,) = self.call(GetParameters, "get_parameters", GetParameters.Request(names=[name])).values
        return rclpy.parameter.parameter_value_to_python(value)

    def change_state(self, transition: int) -> bool:
        request = ChangeState.Request()
        request.transition.id = transition
        return bool(self.call(ChangeState, "change_state", request).success)

    def state(self) -> str:
        return str(self.call(GetState, "get_state", GetState.Request()).current_state.label)


def publish(client: Client, reliability: ReliabilityPolicy, topic: str, message: type = Image) -> Any:
    """A publisher of a reliability."""
    return client.node.create_publisher(message, topic, QoSProfile(depth=10, reliability=reliability))


def wait_heard(client: Client, reliability: ReliabilityPolicy, topic: str, node: str = "detector") -> None:
    """Wait until a node hears a topic so, with one subscription."""

    def heard() -> bool:
        found = [info for info in client.node.get_subscriptions_info_by_topic(topic) if info.node_name == node]
        return [info.qos_profile.reliability for info in found] == [reliability]

    client.wait(f"{node} hears {topic} {reliability.name}", heard)


def diagnostic_values(diagnostics: list[DiagnosticArray], name: str) -> dict[str, str]:
    """The newest values of a status."""
    found = (s for array in reversed(diagnostics) for s in array.status if s.name == name)
    return next(({value.key: value.value for value in status.values} for status in found), {})


def in_diagnostics(diagnostics: list[DiagnosticArray], text: str) -> bool:
    """Whether a status has this text."""
    return any(text in status.message for array in diagnostics for status in array.status)


def image_message(
    pixels: NDArray[np.uint8], stamp: tuple[int, int] = (1, 0), frame_id: str = "camera", encoding: str = "rgb8"
) -> Image:
    """An image message of uint8 [H, W] or [H, W, C] pixels."""
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, data=image_bytes(pixels))
    message.step = pixels.nbytes // pixels.shape[0]
    message.header.frame_id = frame_id
    message.header.stamp.sec, message.header.stamp.nanosec = stamp
    return message


def plain(colour: tuple[int, int, int], height: int = 64, width: int = 96) -> NDArray[np.uint8]:
    """An image of one colour."""
    return np.full((height, width, 3), colour, dtype=np.uint8)


def map_pixels(message: Image) -> NDArray[Any]:
    """The pixels of a published map."""
    dtype = {"32FC1": np.float32, "mono8": np.uint8}[message.encoding]
    return np.frombuffer(message.data, dtype=dtype).reshape(message.height, message.width)
