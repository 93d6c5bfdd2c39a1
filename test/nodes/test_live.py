"""Player, recorder and the whole demo over DDS, with the mock network."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from ros_harness import DEADLINE_S, Client, environment
from rosgraph_msgs.msg import Clock
from run_cli import Cli
from sensor_msgs.msg import CameraInfo, Image

from vl4ad_ros.evaluation.live_run import Child, LiveProcesses
from vl4ad_ros.io.bag_reader import BagReader
from vl4ad_ros.io.bag_writer import BagWriter
from vl4ad_ros.io.errors import Vl4adError

IMAGE = "sensor_msgs/msg/Image"
START = 1_600_000_000_000_000_000
STEP = 50_000_000


def colours(index: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Red on the left, blue on the right, and a corner that tells the frames apart."""
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:, :48], picture[:, 48:] = (255, 0, 0), (0, 0, 255)
    picture[:4, :4] = index * 10
    return picture


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Twelve frames at 20/s, the right half labelled as anomaly."""
    label = np.zeros((64, 96), np.uint8)
    label[:, 48:] = 1
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic("/front/image_raw", IMAGE)
        writer.add_topic("/front/camera_info", "sensor_msgs/msg/CameraInfo")
        writer.add_topic("/front/label", IMAGE)
        for index in range(12):
            stamp = START + index * STEP
            writer.write("/front/camera_info", stamp, writer.camera_info(96, 64, 80.0, stamp, "front"))
            writer.write("/front/image_raw", stamp, writer.image(colours(index), "rgb8", stamp, "front"))
            writer.write("/front/label", stamp, writer.image(label, "mono8", stamp, "front"))
    return tmp_path / "bag"


def stamp_ns(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def play(client: Client, *words: object) -> None:
    """Run `vl4ad replay` to its end, and hear what it publishes meanwhile."""
    command = [sys.executable, "-m", "vl4ad_ros.cli.main", "replay", *map(str, words), "--subscribers", "1"]
    with subprocess.Popen([*command, "--timeout", f"{DEADLINE_S}"], env=environment()) as process:
        assert client.wait("the player's end", lambda: process.poll() is not None)
    assert process.returncode == 0


def test_a_bag_is_played_with_its_stamps_pixels_and_calibration(bag: Path, tmp_path: Path, client: Client) -> None:
    images, infos = client.hear(Image, "/cam/image"), client.hear(CameraInfo, "/cam/camera_info")
    times = client.hear(Clock, "/clock")
    log = tmp_path / "sent.jsonl"
    options = ("--topic", "/front/image_raw", "--to", "/cam/image", "--clock", "--rate", "0.5", "--log", log)
    before = time.time_ns()
    play(client, bag, *options)
    expected = [START + i * STEP for i in range(12)]

    def clock() -> list[int]:
        return [m.clock.sec * 10**9 + m.clock.nanosec for m in times]

    client.wait("all images", lambda: len(images) == 12)
    client.wait("a camera_info", lambda: infos)
    client.wait("the last time", lambda: clock()[-1:] == expected[-1:])
    assert [stamp_ns(message) for message in images] == expected
    assert {message.header.frame_id for message in images} == {"front"}
    assert all(bytes(m.data) == colours(i).tobytes() for i, m in enumerate(images))
    # The player waits for who hears the images; who hears camera_info may be found a little later.
    client.wait("the last camera_info", lambda: stamp_ns(infos[-1]) == expected[-1])
    assert [stamp_ns(m) for m in infos] == expected[-len(infos) :]
    sent = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["stamp_ns"] for line in sent] == expected
    moments = [line["sent_ns"] for line in sent]
    assert before < moments[0]
    # At half speed the recording's 0.55 s take at least 1.1 s; how much more is the machine's business.
    assert moments[-1] - before >= 1.0e9
    assert clock() == sorted(clock())
    assert set(clock()) - set(expected)  # It ticks between the frames, too.


def test_a_loop_goes_on_in_time_until_interrupted(bag: Path, client: Client) -> None:
    images = client.hear(Image, "/front/image_raw")
    command = [sys.executable, "-m", "vl4ad_ros.cli.main", "replay", str(bag), "--loop", "--rate", "5"]
    process = subprocess.Popen([*command, "--subscribers", "1"], stderr=subprocess.PIPE, text=True)
    try:
        client.wait("the second round", lambda: len(images) >= 26)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    stamps = [stamp_ns(message) for message in images]
    assert stamps == sorted(set(stamps))
    assert all((stamp - START) % STEP == 0 for stamp in stamps)
    assert "Traceback" not in error, error
    assert process.returncode == 130, error


def test_a_video_is_played_frame_by_frame(tmp_path: Path, client: Client) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "film.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (96, 64))
    for index in range(5):
        writer.write(np.full((64, 96, 3), 40 * index, np.uint8))
    writer.release()
    images = client.hear(Image, "/camera/image_raw")
    play(client, tmp_path / "film.avi")
    client.wait("all frames", lambda: len(images) == 5)
    assert [round(float(np.frombuffer(m.data, np.uint8).mean()) / 40) for m in images] == [0, 1, 2, 3, 4]
    stamps = [stamp_ns(message) for message in images]
    assert set(np.diff(stamps)) == {40_000_000}


def test_the_demo_measures_a_live_run_of_a_bag(bag: Path, mock_bundle: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "demo"
    options = ["--bundle", str(mock_bundle), "--topic", "/front/image_raw", "--label-topic", "/front/label"]
    shown = cli("demo", "--bag", bag, "--out", out, *options, "--rate", "0.5")
    assert str(out / "report.html") in shown
    assert "AP" in shown and "from camera to map" in shown
    result = json.loads((out / "result.json").read_text())
    live = result["live"]
    assert live["sent"] == 12
    assert live["received"] + live["dropped"] == 12
    assert live["received"] > 0
    # Red is a class of the mock's set, blue is not: the labelled half is the uncertain one.
    assert result["pixel"]["ap"] == pytest.approx(1.0, abs=0.03)
    assert result["detector"]["bundle"] == "mock"
    with BagReader(out / "recording") as recording:
        maps = list(recording.images("/detector/uncertainty"))
    sent = {START + i * STEP for i in range(12)}
    assert {image.stamp_ns for image in maps} <= sent
    assert {image.frame_id for image in maps} == {"front"}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "data:image/jpeg;base64," in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def python(processes: LiveProcesses, name: str, code: str, folder: Path) -> Child:
    (folder / f"{name}_module.py").write_text(code)
    return processes.start(name, [f"{name}_module"])


def test_a_process_that_fails_is_named_with_its_last_words_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with LiveProcesses(tmp_path / "logs") as processes:
        sleeper = python(processes, "sleeper", "import time\nprint('recording')\ntime.sleep(600)\n", tmp_path)
        processes.wait(lambda: "recording" in sleeper.lines(), DEADLINE_S, "It did not start")
        failing = python(processes, "failing", "import sys\nsys.exit('no camera today')\n", tmp_path)
        with pytest.raises(Vl4adError, match=r"The failing stopped with status 1; .*: no camera today"):
            processes.wait(lambda: failing.process.poll() == 0, DEADLINE_S, "It did not end")
    assert sleeper.process.poll() is not None


def test_what_takes_too_long_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with LiveProcesses(tmp_path / "logs") as processes:
        silent = python(processes, "silent", "import time\ntime.sleep(600)\n", tmp_path)
        with pytest.raises(Vl4adError, match=r"It did not start within 0\.2 s; logs are in"):
            processes.wait(lambda: False, 0.2, "It did not start")
    assert silent.process.poll() is not None
