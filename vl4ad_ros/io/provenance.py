"""What a result file says of its making: command, versions, hardware."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from vl4ad_ros import __version__

# The libraries whose version may change a number.
LIBRARIES: tuple[str, ...] = (
    "numpy", "opencv-python-headless", "opencv-python", "onnxruntime", "onnxruntime-gpu", "torch", "rosbags",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Return the versions of this package, Python and the installed libraries that may change a number."""
    found = {"vl4ad_ros": __version__, "python": platform.python_version()}
    for library in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[library] = importlib.metadata.version(library)
    return found


def hardware() -> dict[str, Any]:
    """Return processor, cores that this process may use, memory, GPUs (where a driver is) and operating system."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": _gpus(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def provenance() -> dict[str, Any]:
    """Return when, by which command, with which versions and on which hardware this process makes its results."""
    name, *arguments = sys.argv
    program = Path(name).stem if not name.endswith("main.py") else "vl4ad"
    return {
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join([program, *arguments]),
        "versions": versions(),
        "hardware": hardware(),
    }


def _cpu_name() -> str:
    with suppress(OSError):  # Not Linux: the platform module knows a shorter name.
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        if named := re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.MULTILINE):
            return named[1].strip()
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [" ".join(line.split()) for line in answer.stdout.splitlines() if line.strip()]
