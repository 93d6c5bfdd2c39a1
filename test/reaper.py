"""Ends the processes that a test run leaves when it is killed: python reaper.py PID MARK.

The run's PID, and the value of the variable `MARK` in the environment of all that it starts.
"""

from __future__ import annotations

import contextlib
import os
import sys

import psutil

MARK = "VL4AD_TEST_RUN"


def end(mark: str) -> None:
    """Kill every other process that was started with the mark."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                process.kill()


def main() -> None:
    run, mark = int(sys.argv[1]), sys.argv[2]
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(run).wait()
    end(mark)


if __name__ == "__main__":
    main()
