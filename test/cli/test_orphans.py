"""Whatever ends a command, none of its processes outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from vl4ad_ros.cli.main import main

DEADLINE_S = 120.0
LIVE = "evaluate bag {drive} --live --rate 0.01 --out {out} --bundle {bundle}"


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drive") / "drive"
    assert main(["sample-drive", "--out", str(path), "--frames", "12", "--size", "96x64", "--jobs", "1"]) == 0
    return path


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize(
    ("command", "children"),
    [
        ("sample-drive --out {out} --frames 100000 --size 960x540 --jobs 2", 3),  # with the tracker of resources
        ("evaluate bag {drive} --jobs 2 --out {out} --bundle {bundle}", 3),
        (LIVE, 2),
    ],
)
def test_nothing_is_left_of_a_command_that_is_ended(
    command: str, children: int, number: int, drive: Path, mock_bundle: Path, tmp_path: Path
) -> None:
    words = command.format(drive=drive, bundle=mock_bundle, out=tmp_path / "out").split()
    with subprocess.Popen([sys.executable, "-m", "vl4ad_ros.cli.main", *words], stderr=subprocess.DEVNULL) as process:
        parent, deadline = psutil.Process(process.pid), time.monotonic() + DEADLINE_S
        while len(started := parent.children(recursive=True)) < children:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, number)
    _, left = psutil.wait_procs(started, DEADLINE_S)
    assert left == []
