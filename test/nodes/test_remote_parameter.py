from __future__ import annotations

from pathlib import Path

import pytest
from mock_bundle import ColourEncoder
from ros_harness import Client, Process

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.nodes.remote_parameter import set_remote_parameter
from vl4ad_ros.prompts.compile import compile_prompt_set
from vl4ad_ros.prompts.schema import PromptSet


def test_a_prompt_set_is_sent_to_a_running_node(detector: Process, client: Client, tmp_path: Path) -> None:
    path = str(tmp_path / "mine.safetensors")
    compile_prompt_set(PromptSet(name="mine", classes={"stop": ["red"]}), ColourEncoder()).save(path)
    set_remote_parameter("/detector", "prompt_set", path, timeout_s=180)
    assert client.get_parameter("prompt_set") == path
    with pytest.raises(Vl4adError, match="nonsense"):
        set_remote_parameter("/detector", "prompt_set", "nonsense", timeout_s=180)
    assert client.get_parameter("prompt_set") == path


def test_a_node_that_is_not_there_is_named() -> None:
    with pytest.raises(Vl4adError, match="/nobody"):
        set_remote_parameter("/nobody", "prompt_set", "x", timeout_s=1)
