"""The parameter `auto_build` of the running node: whether a missing engine is built, or only named."""

from __future__ import annotations

from pathlib import Path

import pytest
from ros_harness import Client, parameters, running

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.cuda import CudaDevice
from vl4ad_ros.runtime.tensorrt_library import load_library


@pytest.fixture
def no_gpu() -> None:
    try:
        load_library("tensorrt_rtx")
    except Vl4adError as error:
        pytest.skip(str(error))
    try:
        CudaDevice().close()
    except Vl4adError:
        return
    pytest.skip("a GPU is here")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "build it with: vl4ad export tensorrt"),
        ({"auto_build": False}, "build it with: vl4ad export tensorrt"),
        # Without a GPU, building is where it ends; that it got so far is what is told here.
        ({"auto_build": True}, "No NVIDIA GPU can be used here"),
    ],
)
def test_an_engine_is_built_only_if_that_is_asked_for(
    values: dict[str, bool], said: str, mock_bundle: Path, tmp_path: Path, client: Client
) -> None:
    arguments = parameters(bundle=str(mock_bundle), prompt_set="traffic", backend="tensorrt_rtx", **values)
    with running("vl4ad_ros.nodes.detector", tmp_path / "log", *arguments) as node:
        log = client.wait(
            "the node's answer", lambda: [line for line in node.output().splitlines() if "Not conf" in line]
        )
    assert said in log[0]
    assert not (mock_bundle / "engines").exists()
