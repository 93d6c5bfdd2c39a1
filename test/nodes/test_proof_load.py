"""Load over DDS: cameras share one engine fairly, parameters are answered, memory stays flat.

By command the long forms, with their figures (python -m pytest test/nodes/test_proof_load.py --log-cli-level=INFO):
VL4AD_SOAK_S=600 and -k soak, VL4AD_CAMERAS_S=60 and -k four, VL4AD_CALLS=200 and -k parameters.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from ros_harness import (
    DETECTOR,
    Client,
    cameras,
    diagnostic_values,
    image_message,
    map_pixels,
    parameters,
    plain,
    running,
)
from std_msgs.msg import Float64

SOAK_S = float(os.environ.get("VL4AD_SOAK_S", "6"))
LOG = logging.getLogger(__name__)
CAMERAS = ("front", "left", "right", "rear")
CAMERAS_S = float(os.environ.get("VL4AD_CAMERAS_S", "0"))
CALLS = int(os.environ.get("VL4AD_CALLS", "20"))
REMAP = ("-r", "image:=/camera/image")


def counts(diagnostics: list[Any], name: str) -> dict[str, int]:
    """Frames of a camera by what became of them."""
    found = diagnostic_values(diagnostics, f"detector: camera {name}")
    return {key: int(value) for key, value in found.items() if value.isdigit()}


def test_two_cameras_keep_their_frames_apart(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    front, rear = client.hear_results("front")[0], client.hear_results("rear")[0]
    values = parameters(
        bundle=str(mock_bundle), prompt_set="traffic", cameras=["front", "rear"], batch_wait_ms=50.0, max_batch=2
    )
    with running(DETECTOR, tmp_path / "log", *values):
        client.wait_connected("/front/image")
        client.wait_connected("/rear/image")
        for second in range(1, 6):
            red = image_message(plain((255, 0, 0)), stamp=(second, 1), frame_id="front_lens")
            blue = image_message(plain((0, 0, 255), 96, 128), stamp=(second, 2), frame_id="rear_lens")
            client.sender("/rear/image").publish(blue)
            one = client.send_until_heard(red, front, "/front/image")
            two = client.send_until_heard(blue, rear, "/rear/image")
            assert (one.header.frame_id, two.header.frame_id) == ("front_lens", "rear_lens")
            assert map_pixels(one).mean() < 0.3
            assert map_pixels(two) == pytest.approx(0.5, abs=1e-4)
            assert map_pixels(two).shape == (96, 128)


def test_four_cameras_share_one_engine_fairly(tmp_path: Path, client: Client) -> None:
    """With the small bundle: four cameras at 30 Hz are more than two cores can do."""
    heard = {name: client.hear_results(name)[0] for name in CAMERAS}
    ages = {name: client.hear(Float64, f"/detector/{name}/debug/age_ms") for name in CAMERAS}
    diagnostics = client.hear_diagnostics()
    topics = [f"/{name}/image" for name in CAMERAS]
    arguments = parameters(bundle="vl4ad-small", cameras=list(CAMERAS))

    def all_published() -> bool:
        return all("published" in counts(diagnostics, name) for name in CAMERAS)

    with running(DETECTOR, tmp_path / "log", *arguments):
        client.wait_connected(topics[0])
        with cameras(topics, 360, 640):
            client.wait("a first map of each camera", lambda: all(heard.values()))
            client.wait("the diagnostics of a loaded node", all_published)
            before = {name: counts(diagnostics, name) for name in CAMERAS}
            for messages in (*heard.values(), *ages.values()):
                del messages[:]
            began = time.monotonic()
            client.wait(
                "maps of all cameras",
                lambda: time.monotonic() - began >= CAMERAS_S and sum(map(len, heard.values())) >= 48,
                300 + CAMERAS_S,
            )
            seconds = time.monotonic() - began
            shares = {name: len(maps) for name, maps in heard.items()}
            worst = {name: max(age.data for age in ages[name]) for name in CAMERAS}
            del diagnostics[:]
            client.wait("newer diagnostics", all_published)
        for name in CAMERAS:
            found, after = diagnostic_values(diagnostics, f"detector: camera {name}"), counts(diagnostics, name)
            meanwhile = {key: number - before[name].get(key, 0) for key, number in after.items()}
            LOG.info(
                "%s: %d results in %.1f s, age median %s ms, worst %.0f ms; counted meanwhile: %s",
                name, shares[name], seconds, found["age median (ms)"], worst[name], meanwhile,
            )  # fmt: skip
            # No queue: a frame waits for the one in work and one of each other camera, however long it lasts. Twice
            # that and two seconds for the way there; behind a queue of ten of each camera it is three times more.
            turns = len(CAMERAS) + 1
            assert float(found["age median (ms)"]) < 2 * turns * float(found["engine p95 (ms)"]) + 2000, found
            # Nothing disappears: what was received was published, replaced, or is still there.
            gone = after["published"] + after.get("replaced", 0) + after.get("nobody listens", 0)
            assert 0 <= after["received"] - gone <= 2, after
            assert all(m.header.frame_id == f"/{name}/image" for m in heard[name])
            stamps = [(m.header.stamp.sec, m.header.stamp.nanosec) for m in heard[name]]
            assert stamps == sorted(stamps)
    # A turn or two of difference, what was under way when we counted, and what a busy machine lost on the way.
    assert max(shares.values()) - min(shares.values()) <= max(6, 0.4 * max(shares.values())), shares


def test_parameters_are_answered_under_full_load(tmp_path: Path, client: Client) -> None:
    """Not a timed test: the answers must come while frames keep being dropped, so that no queue is ahead of them."""
    maps, _ = client.hear_results()
    diagnostics = client.hear_diagnostics()
    other = Client("other_client")
    try:
        with running(DETECTOR, tmp_path / "log", *REMAP, *parameters(bundle="vl4ad-small")):
            client.wait_connected()
            with cameras(["/camera/image"], 720, 1280):
                client.wait("results", lambda: len(maps) > 3)
                client.wait("more frames than the engine can do", lambda: "replaced" in counts(diagnostics, "image"))
                # The first call waits until the service is found.
                assert other.set_parameter("threshold", 0.2).successful
                durations = []
                for number in range(CALLS):
                    began = time.monotonic()
                    # By turns the cheapest change, and the one that reads a file and hashes it.
                    if number % 2:
                        name = ("cityscapes", "cityscapes_superclasses")[number // 2 % 2]
                        assert other.set_parameter("prompt_set", name).successful
                    else:
                        assert other.set_parameter("threshold", 0.3 + number / 1000).successful
                    durations.append((time.monotonic() - began) * 1e3)
                    client.spin(0.0)
                assert other.get_parameter("threshold") == pytest.approx(0.3 + (CALLS - 1) // 2 * 2 / 1000)
    finally:
        other.close()
    durations.sort()
    LOG.info(
        "%d parameter calls: median %.1f ms, 99th percentile %.1f ms, largest %.1f ms",
        CALLS, durations[CALLS // 2], durations[CALLS * 99 // 100], durations[-1],
    )  # fmt: skip


@pytest.mark.timeout(1800)
def test_soak_with_swaps_keeps_memory_flat(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    maps, _ = client.hear_results()
    client.hear_diagnostics()
    arguments = (*REMAP, *parameters(bundle=str(mock_bundle), prompt_set="traffic"))
    with running(DETECTOR, tmp_path / "log", *arguments) as process:
        client.wait_connected()
        memory = psutil.Process(process.popen.pid)
        samples: list[int] = []
        answered = 0
        with cameras(["/camera/image"], 480, 640):
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
