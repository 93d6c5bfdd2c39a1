"""Fixtures of the tests with nodes; the DDS domain is the test run's own (see test/conftest.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (pip install 'vl4ad_ros[ros]')")

from mock_bundle import write_mock_bundle
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from ros_harness import DETECTOR, REMAP, Client, Process, parameters, running

from vl4ad_ros.runtime.settings import PARAMETERS

AT_START = {parameter.name: parameter.default for parameter in PARAMETERS if parameter.live}
AT_START |= {"prompt_set": "traffic", "use_sim_time": False}


@pytest.fixture
def client() -> Iterator[Client]:
    """A test's own node."""
    own = Client()
    try:
        yield own
    finally:
        own.close()


@pytest.fixture(scope="module")
def shared_detector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("detector")
    bundle = write_mock_bundle(folder / "mock")
    with running(DETECTOR, folder / "log", *REMAP, *parameters(bundle=str(bundle), prompt_set="traffic")) as process:
        yield process


@pytest.fixture
def detector(shared_detector: Process, client: Client) -> Iterator[Process]:
    """A module's detector with the mock bundle, set back after each test; its life cycle is not a test's to change."""
    yield shared_detector
    changes = [Parameter(name, value=value).to_parameter_msg() for name, value in AT_START.items()]
    results = client.call(SetParameters, "set_parameters", SetParameters.Request(parameters=changes)).results
    assert all(result.successful for result in results)
    assert "Traceback" not in shared_detector.output()
