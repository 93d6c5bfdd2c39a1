"""A live run over DDS: detector, player and recorder, each in its own process."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from vl4ad_ros.evaluation.domain import own_environment
from vl4ad_ros.io.children import child_command
from vl4ad_ros.io.errors import Vl4adError

READY = "recording"
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 15.0
# Without a new map for so long after the player has gone, the recorder takes the run as over.
IDLE_S = 4.0


@dataclass(frozen=True)
class LiveRun:
    """What a live run leaves: the bag of the detector's outputs, and the player's log of what was sent."""

    recording: Path
    sent: Path


@dataclass(frozen=True)
class Child:
    """A process of the run: its name for people, the process, and the file with its output."""

    name: str
    process: psutil.Popen
    log: Path

    def lines(self) -> list[str]:
        """Return what it has printed so far."""
        return [line for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line]


class LiveProcesses:
    """Starts and ends the processes of a run, in a ROS domain of their own on this machine only."""

    def __init__(self, logs: Path) -> None:
        """Prepare the environment; `logs` is the folder for the processes' logs."""
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._children: list[Child] = []
        self._environment = own_environment() | {"ROS_LOG_DIR": str(logs), "PYTHONUNBUFFERED": "1"}

    def start(self, name: str, command: Sequence[str], visible: bool = False) -> Child:
        """Start a module of Python with its arguments; `visible` shows its standard error on the terminal."""
        log = self._logs / f"{name}.log"
        with log.open("wb") as output:
            process = psutil.Popen(
                child_command(*command), env=self._environment,
                stdout=output, stderr=None if visible else subprocess.STDOUT,
            )  # fmt: skip
        self._children.append(Child(name, process, log))
        return self._children[-1]

    def wait(self, done: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
        """Wait until something is done; that a process fails, or time is over, is an error that says `otherwise`."""
        deadline = time.monotonic() + timeout_s
        while not done():
            for child in self._children:
                status = child.process.poll()
                if status not in (None, 0):
                    end = " | ".join(child.lines()[-3:]) or "(empty)"
                    raise Vl4adError(f"The {child.name} stopped with status {status}; the end of {child.log}: {end}")
            if time.monotonic() > deadline:
                raise Vl4adError(f"{otherwise} within {timeout_s:g} s; logs are in {self._logs}.")
            time.sleep(0.05)

    def __enter__(self) -> LiveProcesses:
        return self

    def __exit__(self, *error: object) -> None:
        """Interrupt what still runs, and kill what does not react."""
        running = [child.process for child in self._children if child.process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGINT)
        _, stuck = psutil.wait_procs(running, STOP_TIMEOUT_S)
        for child in stuck:
            child.kill()
        psutil.wait_procs(stuck)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt, so that no process is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_live(
    source: Path,
    topic: str,
    out: Path,
    seconds: float,
    compressed: bool = False,
    bundle: str = "vl4ad-small",
    prompt_set: str | None = None,
    rate: float = 1.0,
    extra: Mapping[str, str] | None = None,
) -> LiveRun:
    """Play a bag through a live detector and record what it publishes into a new `recording` in `out`."""
    live = LiveRun(out / "recording", out / "sent.jsonl")
    # The player's topic is the detector's own name for it: no remapping, whatever the bag calls it.
    image = "/camera/image_raw/compressed" if compressed else "/camera/image_raw"
    parameters = {"bundle": bundle, "use_sim_time": "true", "compressed": "true" if compressed else "false"}
    if prompt_set is not None:
        parameters["prompt_set"] = prompt_set
    parameters |= extra or {}
    options = [text for name, value in parameters.items() for text in ("-p", f"{name}:={value}")]
    remap = f"image{'/compressed' if compressed else ''}:={image}"
    until = ["--source", image, "--idle", f"{IDLE_S:g}"]
    played = ["vl4ad_ros.cli.main", "replay", str(source), "--topic", topic, "--to", image]
    played += ["--subscribers", "1", "--clock", "--rate", f"{rate:g}", "--log", str(live.sent)]
    with _terminated_as_interrupted(), LiveProcesses(out / "logs") as processes:
        processes.start("detector", ["vl4ad_ros.nodes.detector", "--ros-args", "-r", remap, *options])
        recorder = processes.start("recorder", ["vl4ad_ros.nodes.recorder", str(live.recording), *until])
        processes.wait(lambda: READY in recorder.lines(), START_TIMEOUT_S, "The detector did not start")
        player = processes.start("player", played, visible=True)
        timeout_s = START_TIMEOUT_S + 3 * seconds / rate
        processes.wait(lambda: player.process.poll() == 0, timeout_s, "The player did not finish")
        processes.wait(lambda: recorder.process.poll() == 0, START_TIMEOUT_S, "The recorder did not finish")
    return live
