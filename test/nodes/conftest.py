"""Fixtures of the tests with nodes; the DDS domain is the test run's own (see test/conftest.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (pip install 'vl4ad_ros[ros]')")

from ros_harness import Client


@pytest.fixture
def client() -> Iterator[Client]:
    """A test's own node."""
    own = Client()
    try:
        yield own
    finally:
        own.close()
