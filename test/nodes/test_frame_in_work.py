"""While a frame is in work: the node answers, the newest frame wins, and no swap touches the frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lifecycle_msgs.msg import Transition
from mock_bundle import red_uncertainty
from ros_harness import (
    Client,
    Process,
    diagnostic_values,
    image_message,
    in_diagnostics,
    map_pixels,
    parameters,
    plain,
    running,
)

NODE = "blocking_detector"


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder by which a test holds the engine up; see `blocking_detector`."""
    folder = tmp_path / "gate"
    folder.mkdir()
    monkeypatch.setenv("VL4AD_GATE", str(folder))
    return folder


def count_of(diagnostics: list[Any], cause: str) -> int:
    return int(diagnostic_values(diagnostics, "detector: camera image").get(cause, 0))


def start(client: Client, gate: Path, process: Process) -> int:
    """Send the frame of second 1 until the engine has it in work; return how often it was sent."""
    client.wait_connected()
    red = image_message(plain((255, 0, 0)), stamp=(1, 0))
    sent = 0

    def in_work() -> bool:
        nonlocal sent
        if not (gate / "in_work_1").exists():
            client.sender().publish(red)
            sent += 1
        return (gate / "in_work_1").exists()

    client.wait("a frame in work", in_work)
    assert process.alive()
    return sent


def test_a_swap_meanwhile_is_answered_and_acts_on_the_next_frame(
    mock_bundle: Path, tmp_path: Path, client: Client, gate: Path
) -> None:
    maps, masks = client.hear_results()
    published = client.hear_prompt_set()
    diagnostics = client.hear_diagnostics()
    values = parameters(bundle=str(mock_bundle), prompt_set="traffic")
    with running(NODE, tmp_path / "log", "-r", "image:=/camera/image", *values) as process:
        sent = start(client, gate, process)
        # The engine does not move, and the node answers all the same.
        for number in range(10):
            assert client.set_parameter("threshold", 0.1 + number / 100).successful
        assert not client.set_parameter("prompt_set", "nonsense").successful
        assert client.set_parameter("prompt_set", "merged").successful
        assert client.get_parameter("prompt_set") == "merged"
        assert client.state() == "active"
        assert (maps, masks) == ([], [])
        # Newer frames: each takes the place of the one before it.
        for second in range(2, 6):
            client.sender().publish(image_message(plain((255, 0, 0)), stamp=(second, 0)))
            sent += 1

        def the_newest_is_there() -> bool:
            client.sender().publish(image_message(plain((255, 0, 0)), stamp=(6, 0)))
            received = count_of(diagnostics, "received")
            return received > sent and count_of(diagnostics, "replaced") >= 4

        client.wait("frames replaced by newer ones", the_newest_is_there)
        for call in range(1, 9):
            (gate / f"go_{call}").touch()
        client.wait("two results", lambda: len(maps) >= 2)
        client.wait("both masks", lambda: len(masks) >= 2)
        client.wait("the stamp of the new set", lambda: json.loads(published[-1].data)["since"])
    assert [m.header.stamp.sec for m in maps[:2]] == [1, 6]
    assert map_pixels(maps[0]) == pytest.approx(red_uncertainty(), abs=1e-5)
    assert map_pixels(maps[1]).mean() > red_uncertainty() + 0.1  # `merged` has an OOD column
    assert set(map_pixels(masks[0]).ravel()) == {0}  # with the old threshold, the bundle's

    # What was published last is what is in force, though the old set's first result came after the swap.
    last = json.loads(published[-1].data)
    assert last["name"] == "merged"
    assert last["since"] == {"": {"sec": 6, "nanosec": 0}}
    (first,) = [entry for entry in last["previous"] if entry["since"]]
    assert (first["name"], first["since"]) == ("traffic", {"": {"sec": 1, "nanosec": 0}})
    swaps = [entry["swap"] for entry in [*last["previous"], last]]
    assert swaps == sorted(set(swaps))
    newest = [json.loads(message.data)["swap"] for message in published]
    assert newest == sorted(newest)


def test_switching_off_drops_the_waiting_frame_and_deactivation_waits_for_the_one_in_work(
    mock_bundle: Path, tmp_path: Path, client: Client, gate: Path
) -> None:
    maps, _ = client.hear_results()
    diagnostics = client.hear_diagnostics()
    values = parameters(bundle=str(mock_bundle), prompt_set="traffic")
    with running(NODE, tmp_path / "log", "-r", "image:=/camera/image", *values) as process:
        start(client, gate, process)
        before = count_of(diagnostics, "replaced")

        def one_waits() -> bool:
            client.sender().publish(image_message(plain((255, 0, 0)), stamp=(2, 0)))
            return count_of(diagnostics, "replaced") > before

        client.wait("a frame that waits", one_waits)
        assert client.set_parameter("enabled", False).successful
        for call in range(1, 9):
            (gate / f"go_{call}").touch()
        client.wait("the waiting frame among the disabled", lambda: count_of(diagnostics, "disabled") > 0)
        assert client.set_parameter("enabled", True).successful
        client.send_until_heard(image_message(plain((255, 0, 0)), stamp=(3, 0)), maps)
        assert [m.header.stamp.sec for m in maps[:2]] == [1, 3]
        # Deactivation waits for the frame in work.
        (gate / "slow").write_text("1.0")
        files = set(gate.iterdir())

        def in_work() -> bool:
            client.sender().publish(image_message(plain((255, 0, 0)), stamp=(4, 0)))
            return set(gate.iterdir()) > files

        client.wait("another frame in work", in_work)
        assert client.change_state(Transition.TRANSITION_DEACTIVATE)
        client.wait("its result", lambda: maps[-1].header.stamp.sec == 4)
        assert client.state() == "inactive"
    assert "Traceback" not in process.output()


def test_what_nobody_expects_ends_unconfigured_or_costs_one_frame(
    mock_bundle: Path, tmp_path: Path, client: Client, gate: Path
) -> None:
    (gate / "fails_to_open").touch()
    (gate / "fails_1").touch()
    for call in range(1, 99):
        (gate / f"go_{call}").touch()
    maps, _ = client.hear_results()
    diagnostics = client.hear_diagnostics()
    values = parameters(bundle=str(mock_bundle), prompt_set="traffic")
    with running(NODE, tmp_path / "log", "-r", "image:=/camera/image", *values) as process:
        client.wait("the fault in the diagnostics", lambda: in_diagnostics(diagnostics, "configure it again"))
        assert client.state() == "unconfigured"
        (gate / "fails_to_open").unlink()
        assert client.change_state(Transition.TRANSITION_CONFIGURE)
        assert client.change_state(Transition.TRANSITION_ACTIVATE)
        # The first call of the engine fails; the frame after it is answered.
        client.wait_connected()
        client.send_until_heard(image_message(plain((255, 0, 0)), stamp=(1, 0)), maps)
        client.wait("the engine's error in the diagnostics", lambda: count_of(diagnostics, "engine error") == 1)
    assert "the engine blew up" in process.output()
