"""Load over DDS: four cameras share fairly, parameters answer, memory stays flat, nothing runs for nobody.

By command the long soak, with its figures:
VL4AD_SOAK_S=600 python -m pytest test/nodes/test_proof_load.py -k soak --log-cli-level=INFO
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from ros_harness import Client, image_message, parameters, plain, running

DETECTOR = "vl4ad_ros.nodes.detector"
SOAK_S = float(os.environ.get("VL4AD_SOAK_S", "6"))
LOG = logging.getLogger(__name__)
CAMERAS = ("front", "left", "right", "rear")
RATE_HZ = 30.0


@contextmanager
def cameras(client: Client, topics: Sequence[str], height: int, width: int) -> Iterator[None]:
    """Cameras at 30 Hz, stamped with the time of sending, in a thread of their own."""
    stop = threading.Event()
    senders = [client.sender(topic) for topic in topics]
    picture = plain((255, 0, 0), height, width)

    def run() -> None:
        while not stop.wait(1 / RATE_HZ):
            now = time.time_ns()
            for topic, sender in zip(topics, senders, strict=True):
                sender.publish(image_message(picture, stamp=(now // 10**9, now % 10**9), frame_id=topic))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


def values(client: Client, diagnostics: list[Any], name: str) -> dict[str, str]:
    """The newest diagnostic values of a status."""
    for array in reversed(diagnostics):
        for status in array.status:
            if status.name == name:
                return {value.key: value.value for value in status.values}
    return {}


@pytest.mark.timeout(600)
def test_four_cameras_share_one_engine_fairly(tmp_path: Path, client: Client) -> None:
    """With the small bundle where it is there: four cameras at 30 Hz are more than two cores can do."""
    names = list(CAMERAS)
    heard = {name: client.hear_results(name)[0] for name in names}
    diagnostics = client.hear_diagnostics()
    topics = [f"/{name}/image" for name in names]
    arguments = parameters(bundle="vl4ad-small", cameras=names, max_batch=2)
    with running(DETECTOR, tmp_path / "log", *arguments):
        client.wait_connected(topics[0])
        with cameras(client, topics, 270, 480):
            client.wait("a first map of each camera", lambda: all(heard.values()))
            for maps in heard.values():
                del maps[:]
            enough = 12
            client.wait("maps of all cameras", lambda: sum(map(len, heard.values())) >= enough * len(names), 300)
            shares = [len(maps) for maps in heard.values()]
            client.wait(
                "the diagnostics of a loaded node",
                lambda: all(
                    "age p95 (ms)" in values(client, diagnostics, f"detector: camera {name}") for name in names
                ),
            )
        # One turn of difference, and what was under way when we counted.
        assert max(shares) - min(shares) <= max(4, 0.2 * max(shares)), shares
        for name in names:
            assert all(m.header.frame_id == f"/{name}/image" for m in heard[name])
            stamps = [(m.header.stamp.sec, m.header.stamp.nanosec) for m in heard[name]]
            assert stamps == sorted(stamps)
            found = values(client, diagnostics, f"detector: camera {name}")
            # No queue: a frame is never older than the ones in work before it, a few engine calls.
            assert float(found["age median (ms)"]) < 6 * float(found["engine median (ms)"]) + 300, found


@pytest.mark.timeout(600)
def test_parameters_are_answered_under_full_load(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    """Not a timed test: the answers must come while frames keep being dropped, so that no queue is ahead of them."""
    maps, _ = client.hear_results()
    diagnostics = client.hear_diagnostics()
    other = Client("other_client")
    try:
        with running(
            DETECTOR, tmp_path / "log", "-r", "image:=/camera/image",
            *parameters(bundle=str(mock_bundle), prompt_set="traffic"),
        ):  # fmt: skip
            client.wait_connected()
            with cameras(client, ["/camera/image"], 1080, 1920):
                client.wait("results", lambda: len(maps) > 3)
                durations = []
                for number in range(20):
                    began = time.monotonic()
                    assert other.set_parameter("threshold", 0.3 + number / 1000).successful
                    durations.append((time.monotonic() - began) * 1e3)
                    client.spin(0.0)
                assert other.get_parameter("threshold") == pytest.approx(0.319)
            client.wait("diagnostics", lambda: values(client, diagnostics, "detector: camera image"))
    finally:
        other.close()
    LOG.info("parameter calls: median %.1f ms, largest %.1f ms", sorted(durations)[10], max(durations))


@pytest.mark.timeout(1800)
def test_soak_with_swaps_keeps_memory_flat(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    maps, _ = client.hear_results()
    client.hear_diagnostics()
    arguments = ("-r", "image:=/camera/image", *parameters(bundle=str(mock_bundle), prompt_set="traffic"))
    with running(DETECTOR, tmp_path / "log", *arguments) as process:
        client.wait_connected()
        memory = psutil.Process(process.popen.pid)
        samples: list[int] = []
        answered = 0
        with cameras(client, ["/camera/image"], 480, 640):
            client.wait("results", lambda: maps)
            end = time.monotonic() + SOAK_S
            swap = 0
            while time.monotonic() < end or len(samples) < 20:
                swap += 1
                name = ("traffic", "merged", "traffic_ood", "greys")[swap % 4]
                assert client.set_parameter("prompt_set", name).successful
                for _ in range(5):
                    client.spin(0.02)
                client.wait("results go on", lambda: maps)
                answered += len(maps)
                for heard in client.heard.values():
                    del heard[:]
                # The process's own memory: DDS's shared segments are of a fixed size, but are touched little by little.
                used = memory.memory_info()
                samples.append(used.rss - used.shared)
        assert process.alive()
    third = len(samples) // 3
    middle, late = max(samples[third : 2 * third]), max(samples[-third:])
    growth = (late - middle) / 2**20
    LOG.info(
        "%.0f s, %d results, %d swaps; memory %.1f -> %.1f MiB", SOAK_S, answered, swap, middle / 2**20, late / 2**20
    )
    assert growth < 8, f"memory grew by {growth:.1f} MiB"


def test_nothing_is_computed_for_nobody(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    diagnostics = client.hear_diagnostics()
    arguments = ("-r", "image:=/camera/image", *parameters(bundle=str(mock_bundle)))
    with running(DETECTOR, tmp_path / "log", *arguments):
        client.wait_connected()

        def skipped() -> bool:
            found = values(client, diagnostics, "detector: camera image")
            return int(found.get("nobody listens", 0)) >= 5

        with cameras(client, ["/camera/image"], 64, 96):
            client.wait("frames skipped", skipped)
        assert "published" not in values(client, diagnostics, "detector: camera image")


def test_switched_off_and_limited_rate(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    maps, _ = client.hear_results()
    diagnostics = client.hear_diagnostics()
    arguments = ("-r", "image:=/camera/image", *parameters(bundle=str(mock_bundle), enabled=False))

    def counted(cause: str) -> int:
        return int(values(client, diagnostics, "detector: camera image").get(cause, 0))

    with running(DETECTOR, tmp_path / "log", *arguments):
        client.wait_connected()
        with cameras(client, ["/camera/image"], 64, 96):
            client.wait("frames dropped as disabled", lambda: counted("disabled") >= 5)
            assert maps == []
            assert client.set_parameter("max_rate", 2.0).successful
            assert client.set_parameter("enabled", True).successful
            client.wait("frames over the rate", lambda: counted("max_rate") >= 20)
            client.wait("results", lambda: len(maps) >= 4)
        stamps = [m.header.stamp.sec + m.header.stamp.nanosec / 1e9 for m in maps]
        # The average cannot exceed the limit, whatever the load: gaps of half a second, a frame's tolerance each way.
        assert (len(stamps) - 1) / (stamps[-1] - stamps[0]) < 2.0 * 1.25
