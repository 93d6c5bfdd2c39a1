"""Spoilt files and bombs: no command ends in a traceback, hangs, crashes or takes 2 GB.

A few of each kind here; the whole by `pytest -m attacks -s`, which prints the figures.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import attack_run
import pytest
from attack_run import BOMBS, KINDS

MOST_MIB = 2048
WHOLE = 60


def attacked(kind: str, first: int, count: int, folder: Path) -> None:
    command = [sys.executable, attack_run.__file__, kind, str(first), str(count), str(folder)]
    # OpenCV's codecs and libraries in C write what they think on the real standard error.
    done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    shown = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"number"')]
    assert done.returncode == 0, f"after {shown[-1:]}: {done.stderr[-2000:]}"
    assert len(shown) == count
    statuses = Counter(one["status"] for one in shown)
    peak, longest = max(one["mib"] for one in shown), max(one["seconds"] for one in shown)
    sys.stdout.write(f"{kind}: {count} cases, statuses {dict(statuses)}, {peak} MiB, longest {longest} s\n")
    for one in shown:
        assert one["status"] in (0, 2) and not one["traceback"], one
        assert one["status"] == 0 or one["said"].startswith("vl4ad: "), one
        assert one["mib"] < MOST_MIB, one


@pytest.mark.parametrize("kind", KINDS)
def test_spoilt_files(kind: str, tmp_path: Path) -> None:
    attacked(kind, 0, 3, tmp_path)


@pytest.mark.parametrize("number", range(len(BOMBS)))
def test_bombs(number: int, tmp_path: Path) -> None:
    attacked("bombs", number, 1, tmp_path)


@pytest.mark.attacks
@pytest.mark.parametrize("kind", KINDS)
def test_very_many_spoilt_files(kind: str, tmp_path: Path) -> None:
    attacked(kind, 0, WHOLE, tmp_path)
