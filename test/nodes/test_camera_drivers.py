"""Camera drivers like any other, in processes of their own, reliable and best effort, fast and slow.

By command the long form, with its figures: VL4AD_DRIVER_S=60 and -k slow --log-cli-level=INFO.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from ros_harness import DEADLINE_S, DETECTOR, EARS, ROOT, Client, environment, parameters, running, wait_heard
from sensor_msgs.msg import CameraInfo, Image

from vl4ad_ros.nodes.memory import PROFILE_VARIABLES
from vl4ad_ros.nodes.player import stamp_of

LOG = logging.getLogger(__name__)
DRIVER_S = float(os.environ.get("VL4AD_DRIVER_S", "3"))
RATE_HZ = 30.0
# Images, rate, and the maps that are enough. Where other programs need the processors, 30 MB/s do not get
# through piece by piece: what was not heard is then sent more slowly. What is lost for want of room is so at any rate.
RUNS = ((100, 5.0, 95), (40, 1.0, 32))


@contextmanager
def driver(
    log: Path,
    topic: str,
    height: int,
    width: int,
    number: int,
    rate: float,
    kind: str = "reliable",
    subscribers: int = 1,
    profile: bool = False,
) -> Iterator[Path]:
    """A driver, with our Fast DDS profile only where `profile` says so; gives its log."""
    own = environment()
    if not profile:
        for variable in PROFILE_VARIABLES:
            own.pop(variable, None)
    script = ROOT / "test" / "driver_process.py"
    command = [sys.executable, *map(str, (script, topic, height, width, number, rate, kind, subscribers))]
    with (
        log.open("wb") as stream,
        subprocess.Popen(command, env=own, stdin=subprocess.PIPE, stdout=stream) as process,
    ):
        try:
            yield log
        finally:
            process.kill()


def hear_stamps(client: Client, topic: str, message: type = Image, qos: QoSProfile = EARS) -> set[int]:
    """The stamps of a topic's messages; these are not kept, a hundred full maps are a gigabyte."""
    stamps: set[int] = set()
    client.node.create_subscription(message, topic, lambda raw: stamps.add(stamp_of(raw)), qos, raw=True)
    return stamps


# Height, width, reliability, and whether the driver has our Fast DDS profile.
CAMERAS = {
    "small": (540, 960, "reliable", False),
    "large": (1080, 1920, "reliable", False),
    "eager": (540, 960, "best_effort", True),
}


def send(
    client: Client, folder: Path, names: list[str], run: tuple[int, float, int], heard: dict[str, set[int]]
) -> None:
    """Send images of these cameras until enough are heard, or more could not come."""
    number, rate, enough = run
    with ExitStack() as stack:
        for name in names:
            height, width, kind, profile = CAMERAS[name]
            topic = f"/{name}_camera/image_raw"
            stack.enter_context(driver(folder / name, topic, height, width, number, rate, kind, profile=profile))
        with suppress(AssertionError):
            client.wait("enough maps", lambda: all(len(heard[name]) >= enough for name in names), number / rate + 15)
        LOG.info("maps of %d images: %s", number, {name: len(heard[name]) for name in names})
        for name in names:
            wait_heard(client, ReliabilityPolicy[CAMERAS[name][2].upper()], f"/{name}_camera/image_raw")


def have_infos(names: list[str], maps: dict[str, set[int]], infos: dict[str, set[int]]) -> bool:
    """Whether the maps have their camera_infos, nine of ten at least since a camera's first one."""
    since = {name: {stamp for stamp in maps[name] if stamp >= min(infos[name], default=stamp + 1)} for name in names}
    return all(
        not maps[name] or (bool(since[name]) and len(since[name] & infos[name]) >= 0.9 * len(since[name]))
        for name in names
    )


def test_ordinary_drivers_are_heard(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    """Two reliable drivers without any profile, and a best-effort one with ours: 95 of 100 images make a map."""
    names = list(CAMERAS)
    maps = {name: hear_stamps(client, f"/detector/{name}/uncertainty") for name in names}
    infos = {name: hear_stamps(client, f"/detector/{name}/camera_info", CameraInfo) for name in names}
    remap = [word for name in names for word in ("-r", f"{name}/image:=/{name}_camera/image_raw")]
    values = parameters(bundle=str(mock_bundle), cameras=names, output_size="network")
    with running(DETECTOR, tmp_path / "log", *remap, *values):
        for name in names:
            client.wait("the detector", partial(client.node.count_publishers, f"/detector/{name}/uncertainty"))
        for run in RUNS:
            for stamps in (*maps.values(), *infos.values()):
                stamps.clear()
            send(client, tmp_path, names, run, maps)
            # Each map has its camera_info, from when the one beside the image is discovered, without being asked for.
            client.wait("camera_infos", partial(have_infos, names, maps, infos))
            names = [name for name in names if len(maps[name]) < run[2]]
            if not names:
                break
    assert not names


def test_images_lost_in_transport_are_logged_with_the_cure(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    """A best-effort driver without the profile: its images do not fit into its shared memory."""
    hear_stamps(client, "/detector/uncertainty")
    values = parameters(bundle=str(mock_bundle))
    with (
        running(DETECTOR, tmp_path / "log", "-r", "image:=/camera/image_raw", *values) as process,
        driver(tmp_path / "driver", "/camera/image_raw", 1080, 1920, 10_000, 30, "best_effort"),
    ):
        client.wait("a warning", lambda: "lost in transport" in process.output())
        line = next(line for line in process.output().splitlines() if "lost in transport" in line)
        assert "[WARN]" in line
        assert "%" in line
        assert "config/fastdds.xml" in line


def test_a_slow_detector_holds_back_neither_driver_nor_others(
    mock_bundle: Path, tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver at 30 Hz that keeps every image until all have it; a detector at 1 Hz; another node that hears all."""
    (tmp_path / "slow").write_text("1.0")
    monkeypatch.setenv("VL4AD_GATE", str(tmp_path))
    number = round(DRIVER_S * RATE_HZ)
    maps = hear_stamps(client, "/detector/uncertainty")
    everything = QoSProfile(history=HistoryPolicy.KEEP_ALL, reliability=ReliabilityPolicy.RELIABLE)
    images = hear_stamps(client, "/camera/image_raw", qos=everything)
    values = parameters(bundle=str(mock_bundle))
    with running("blocking_detector", tmp_path / "log", "-r", "image:=/camera/image_raw", *values):
        client.wait("the detector", partial(client.node.count_publishers, "/detector/uncertainty"))
        # Who answers this, knows that we listen to its maps; it computes none for nobody.
        client.get_parameter("threshold")
        with driver(tmp_path / "driver", "/camera/image_raw", 360, 640, number, RATE_HZ, "keep_all", 2) as log:
            client.wait("the driver's end", log.read_text, DRIVER_S + DEADLINE_S)
            client.wait("all images", lambda: len(images) == number)
            client.wait("a map", lambda: maps)
            wait_heard(client, ReliabilityPolicy.RELIABLE, "/camera/image_raw")
        seconds = float(log.read_text().split()[3])
    LOG.info("%d images sent at %.1f Hz, %d heard, %d maps", number, number / seconds, len(images), len(maps))
    # Held back, it would have needed a second for each.
    assert seconds < number / 2
    assert len(maps) < number / 2
