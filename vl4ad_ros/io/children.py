"""Child processes that end with their parent, however it ends: `python -m vl4ad_ros.io.children PARENT MODULE ...`."""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent ends, or has already (on Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def child_command(*module_and_arguments: str) -> list[str]:
    """Return the command that runs a module of Python, as `python -m` does, in a child of this process."""
    return [sys.executable, "-m", __name__, str(os.getpid()), *module_and_arguments]


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
