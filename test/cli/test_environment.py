"""Poor surroundings: no home, no folder for logs, a full or plain terminal, Ctrl-C at the start: at most a sentence."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND, DETECTOR, RECORDER = "vl4ad_ros.cli.main", "vl4ad_ros.nodes.detector", "vl4ad_ros.nodes.recorder"
NO_LOGS = {"ROS_LOG_DIR": "/proc/nothing"}
ASCII = {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}


@pytest.mark.parametrize(
    ("words", "changes", "stdout", "status", "keyword"),
    [
        ([COMMAND, "prompts", "list"], {}, "/dev/full", 2, "No space"),
        ([COMMAND, "--help"], {}, "/dev/full", 2, "No space"),
        ([COMMAND, "prompts", "inspect", "cityscapes"], ASCII, os.devnull, 0, ""),
        ([COMMAND, "prompts", "inspect", "ö☂"], ASCII, os.devnull, 2, "no prompt set"),
        ([COMMAND, "prompts", "list"], {"HOME": None}, os.devnull, 0, ""),
        ([COMMAND, "replay", "none.mp4"], NO_LOGS, os.devnull, 2, "log"),
        ([DETECTOR], {"HOME": None}, os.devnull, 2, "ROS_LOG_DIR"),
        ([DETECTOR], NO_LOGS, os.devnull, 2, "ROS_LOG_DIR"),
        ([RECORDER, "bag"], NO_LOGS, os.devnull, 2, "ROS_LOG_DIR"),
    ],
)
def test_a_sentence_or_nothing(
    words: list[str], changes: dict[str, str | None], stdout: str, status: int, keyword: str, tmp_path: Path
) -> None:
    own = {name: value for name, value in {**os.environ, **changes}.items() if value is not None}
    root = str(Path(__file__).resolve().parents[2])
    with Path(stdout).open("wb") as stream:
        done = subprocess.run(
            [sys.executable, "-m", *words], env={**own, "PYTHONPATH": root}, stdout=stream, stderr=subprocess.PIPE,
            cwd=tmp_path, text=True, errors="replace", check=False,
        )  # fmt: skip
    assert done.returncode == status, done.stderr
    # What rcutils itself prints when it overwrites an error is not ours.
    own_words = re.sub(r"\n>>> \[rcutils.*?<<<\n", "", done.stderr, flags=re.DOTALL)
    assert len(own_words.splitlines()) == (1 if status else 0), done.stderr
    assert keyword in done.stderr


def test_ctrl_c_while_libraries_are_read_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "cyclopts.py").write_text("raise KeyboardInterrupt")
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).resolve().parents[2])])
    command = [sys.executable, "-m", COMMAND, "prompts", "list"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")
