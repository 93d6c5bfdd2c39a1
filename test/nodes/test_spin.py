"""A signal while a node is being made ends its process quietly."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from ros_harness import DEADLINE_S, environment

PROGRAM = """
import os, signal, sys, time, rclpy
from rclpy.node import Node
from vl4ad_ros.nodes.executor import run_node

def create():
    os.kill(os.getpid(), {signal})
    while rclpy.ok():  # until the signal has ended the context, or raised here
        time.sleep(0.01)
    return Node("late")

sys.exit(run_node(create, "late", []))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_is_no_fault(number: signal.Signals) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(signal=int(number))],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=environment(),
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
