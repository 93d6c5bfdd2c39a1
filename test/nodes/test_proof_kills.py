"""Publishers, subscribers and the detector killed in the middle of work (kill -9, not a farewell)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from ros_harness import (
    DEADLINE_S,
    DETECTOR,
    Client,
    Process,
    cameras,
    environment,
    in_diagnostics,
    parameters,
    plain,
    running,
)

from vl4ad_ros.io.bag_writer import BagWriter

TOPIC = "/camera/image"
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


@pytest.fixture
def arguments(mock_bundle: Path) -> list[str]:
    return ["-r", f"image:={TOPIC}", *parameters(bundle=str(mock_bundle), prompt_set="traffic")]


def test_a_killed_camera_is_missed_and_the_next_one_is_served(
    arguments: list[str], tmp_path: Path, client: Client
) -> None:
    maps, _ = client.hear_results()
    diagnostics = client.hear_diagnostics()

    def heard_from(second: int) -> bool:
        return any(second <= message.header.stamp.sec < second + 500 for message in maps)

    with running(DETECTOR, tmp_path / "log", *arguments):
        client.wait("that there is no camera", partial(in_diagnostics, diagnostics, f"{TOPIC} has no publishers"))
        for start in (1_000, 2_000):
            with cameras([TOPIC], 64, 96, start) as camera:
                client.wait("its frames", partial(heard_from, start))
                camera.kill()
            del diagnostics[:]
            client.wait("the silence in the diagnostics", partial(in_diagnostics, diagnostics, "no frame for"))
        with cameras([TOPIC], 64, 96, 500):
            client.wait("frames after a jump back in time", partial(heard_from, 500))


def test_a_killed_listener_holds_nobody_up_and_ctrl_c_ends_cleanly(
    arguments: list[str], tmp_path: Path, client: Client
) -> None:
    maps, _ = client.hear_results()
    command = [sys.executable, "-c", LISTENER]
    with (
        running(DETECTOR, tmp_path / "log", *arguments) as process,
        subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as listener,
        cameras([TOPIC], 64, 96),
    ):
        assert listener.stdout is not None
        assert listener.stdout.readline() == "heard\n"
        listener.kill()
        before = len(maps)
        client.wait("results after the listener's death", lambda: len(maps) > before + 20)
        assert process.stop() == 0
    assert "Traceback" not in process.output()


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
    command = [sys.executable, "-m", "vl4ad_ros.cli.main", "replay", str(bag), "--to", TOPIC, "--clock"]
    # It begins when it knows the detector, however long the detector takes to start.
    command += ["--loop", "--rate", str(rate), "--subscribers", "1", "--timeout", str(DEADLINE_S)]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_detector_and_then_the_player_killed_in_the_middle_of_a_bag(
    arguments: list[str], tmp_path: Path, client: Client
) -> None:
    bag = write_bag(tmp_path / "bag")
    maps, _ = client.hear_results()
    diagnostics = client.hear_diagnostics()
    values = ["-p", "use_sim_time:=true", *arguments]

    def newest() -> tuple[int, int]:
        return maps[-1].header.stamp.sec, maps[-1].header.stamp.nanosec

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
            client.wait("the silence in the diagnostics", partial(in_diagnostics, diagnostics, "no frame for"))
            stopped_at = newest()
            del maps[:]
            # So slow that it needs minutes to where the first one was killed, however late the detector hears it.
            with player(bag, 0.02):
                client.wait("results from the bag's beginning", lambda: maps and newest() < stopped_at)
                client.wait("the jump in the diagnostics", partial(in_diagnostics, diagnostics, "time jumped back"))
            assert "Traceback" not in second.output()
