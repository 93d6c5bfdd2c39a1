"""Publishers, subscribers and the detector killed in the middle of work (kill -9, not a farewell)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ros_harness import DEADLINE_S, EARS, Client, Process, environment, image_message, parameters, plain, running
from std_msgs.msg import String

from vl4ad_ros.io.bag_writer import BagWriter
from vl4ad_ros.nodes.qos import LATCHED

DETECTOR = "vl4ad_ros.nodes.detector"
TALKER = """
import sys, time, rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image
from ros_harness import SENSOR, image_message, plain
rclpy.init()
node = Node("talker")
sender = node.create_publisher(Image, "/camera/image", SENSOR)
for number in range(1, 10**9):
    sender.publish(image_message(plain((255, 0, 0)), stamp=(int(sys.argv[1]) + number // 1000, number % 1000)))
    time.sleep(0.01)
"""
LISTENER = """
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image
from ros_harness import EARS
rclpy.init()
node = Node("listener")
node.create_subscription(Image, "/detector/uncertainty", lambda message: print("heard", flush=True), EARS)
rclpy.spin(node)
"""


@contextmanager
def script(text: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A small program of the test in its own process; killed at the end, if not before."""
    env = environment()
    env["PYTHONPATH"] += os.pathsep + str(Path(__file__).resolve().parent.parent)
    process = subprocess.Popen([sys.executable, "-c", text, *arguments], env=env, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def arguments(bundle: Path) -> list[str]:
    return ["-r", "image:=/camera/image", *parameters(bundle=str(bundle), prompt_set="traffic")]


def test_a_killed_camera_is_missed_and_the_next_one_is_served(
    mock_bundle: Path, tmp_path: Path, client: Client
) -> None:
    maps, _ = client.hear_results()
    diagnostics = client.hear_diagnostics()

    def heard_from(second: int) -> bool:
        return any(message.header.stamp.sec >= second for message in maps)

    with running(DETECTOR, tmp_path / "log", *arguments(mock_bundle)):
        client.wait(
            "that there is no camera",
            lambda: any("/camera/image has no publishers" in s.message for a in diagnostics for s in a.status),
        )
        for start in (1_000, 2_000):
            with script(TALKER, str(start)) as talker:
                client.wait("its frames", partial(heard_from, start))
                talker.kill()
            del diagnostics[:]
            client.wait(
                "the silence in the diagnostics",
                lambda: any("no frame for" in s.message for array in diagnostics for s in array.status),
            )
        del maps[:]
        with script(TALKER, "500"):
            client.wait("frames after a jump back in time", lambda: any(500 <= m.header.stamp.sec < 1000 for m in maps))


def test_a_killed_listener_holds_nobody_up(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    maps, _ = client.hear_results()
    with running(DETECTOR, tmp_path / "log", *arguments(mock_bundle)):
        client.wait_connected()
        with script(LISTENER) as listener:
            assert listener.stdout is not None
            with script(TALKER, "1"):
                assert listener.stdout.readline() == "heard\n"
                listener.kill()
                before = len(maps)
                client.wait("results after the listener's death", lambda: len(maps) > before + 20)


def test_a_detector_killed_in_the_middle_is_replaced(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    maps, _ = client.hear_results()
    told = client.hear(String, "/detector/prompt_set", LATCHED)
    with script(TALKER, "1"):
        first = Process(DETECTOR, tmp_path / "first.log", *arguments(mock_bundle))
        try:
            client.wait("results of the first", lambda: len(maps) > 5)
        finally:
            first.kill()
        del told[:]
        with running(DETECTOR, tmp_path / "second.log", *arguments(mock_bundle)):
            client.wait("its prompt set", lambda: told)
            before = len(maps)
            # More than can be left of the first one's.
            client.wait("results of the second", lambda: len(maps) > before + EARS.depth)


def write_bag(path: Path) -> Path:
    """4 seconds of a red camera at 25 Hz."""
    picture = plain((255, 0, 0))
    with BagWriter(path) as bag:
        bag.add_topic("/camera/image_raw", "sensor_msgs/msg/Image")
        for number in range(100):
            stamp = 1_700_000_000 * 10**9 + number * 40_000_000
            bag.write("/camera/image_raw", stamp, bag.image(picture, "rgb8", stamp, "camera"))
    return path


@contextmanager
def player(bag: Path, rate: float) -> Iterator[subprocess.Popen[bytes]]:
    """`vl4ad replay` of a bag with /clock, without end (stamps go on growing); killed at the end, if not before."""
    command = [sys.executable, "-m", "vl4ad_ros.cli.main", "replay", str(bag), "--to", "/camera/image", "--clock"]
    # It begins when it knows the detector, however long the detector takes to start.
    command += ["--loop", "--rate", str(rate), "--subscribers", "1", "--timeout", str(DEADLINE_S)]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_detector_and_then_the_player_killed_in_the_middle_of_a_bag(
    mock_bundle: Path, tmp_path: Path, client: Client
) -> None:
    bag = write_bag(tmp_path / "bag")
    maps, _ = client.hear_results()
    diagnostics = client.hear_diagnostics()
    values = ["-p", "use_sim_time:=true", *arguments(mock_bundle)]

    def newest() -> tuple[int, int]:
        return maps[-1].header.stamp.sec, maps[-1].header.stamp.nanosec

    def said(text: str) -> bool:
        return any(
            text in status.message or any(text == value.key for value in status.values)
            for array in diagnostics
            for status in array.status
        )

    with player(bag, 1.0) as first_player:
        first = Process(DETECTOR, tmp_path / "first.log", *values)
        try:
            client.wait("results of the first", lambda: len(maps) > 5)
        finally:
            first.kill()
        before = newest()
        with running(DETECTOR, tmp_path / "second.log", *values) as second:
            # Of the stamps that a machine plays in the time that two detectors need to start, a few seconds at least.
            later = (before[0] + 2, before[1])
            client.wait("results of the second, later in the same play", lambda: newest() > later)
            assert first_player.poll() is None
            first_player.kill()
            del diagnostics[:]
            client.wait("the silence in the diagnostics", lambda: said("no frame for"))
            stopped_at = newest()
            del maps[:]
            # So slow that it needs minutes to where the first one was killed, however late the detector hears it.
            with player(bag, 0.02):
                client.wait("results from the bag's beginning", lambda: maps and newest() < stopped_at)
                client.wait("the jump in the diagnostics", lambda: said("time jumped back"))
            assert "Traceback" not in second.output()


def test_ctrl_c_under_load_ends_cleanly(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    maps, _ = client.hear_results()
    with script(TALKER, "1"):
        process = Process(DETECTOR, tmp_path / "log", *arguments(mock_bundle))
        try:
            client.wait("results", lambda: len(maps) > 5)
            assert process.stop() == 0
        finally:
            if process.alive():
                process.kill()
    assert "Traceback" not in process.output()


def test_the_client_of_this_test_can_tell_a_silent_node(client: Client) -> None:
    """No detector runs: nothing may arrive, or the tests above prove nothing."""
    maps, _ = client.hear_results()
    sender = client.sender()
    for _ in range(10):
        sender.publish(image_message(plain((255, 0, 0))))
        client.spin(0.05)
    assert maps == []
