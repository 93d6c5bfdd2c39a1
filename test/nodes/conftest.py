"""Every test of this folder talks on its own DDS domain, on this machine only."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (pip install 'vl4ad_ros[ros]')")
# Set before any context exists: Fast DDS reads it once. Domains up to 101 leave the ports of the system alone.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

from ros_harness import Client


@pytest.fixture
def client() -> Iterator[Client]:
    """A test's own node."""
    own = Client()
    try:
        yield own
    finally:
        own.close()
