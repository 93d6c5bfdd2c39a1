"""The launch files: every argument described, and what they start."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = sorted((ROOT / "launch").glob("*.launch.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_launch_files_are_python(path: Path) -> None:
    """Where the launch packages are missing (they are on no registry), the syntax at least."""
    compile(path.read_text(encoding="utf-8"), str(path), "exec")


def test_the_parameter_file_names_known_parameters() -> None:
    parameters = pytest.importorskip("vl4ad_ros.nodes.parameters")
    content = yaml.safe_load((ROOT / "config" / "detector.yaml").read_text(encoding="utf-8"))
    given = content["/**"]["ros__parameters"]
    assert given
    for name, value in given.items():
        assert type(value) is type(parameters.BY_NAME[name].default)


def load(path: Path) -> ModuleType:
    pytest.importorskip("launch_ros", reason="launch and launch_ros are not installed")
    spec = importlib.util.spec_from_file_location(path.name.replace(".", "_"), path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_argument_is_described(path: Path) -> None:
    description: Any = load(path).generate_launch_description()
    arguments = [entity for entity in description.entities if type(entity).__name__ == "DeclareLaunchArgument"]
    assert arguments
    assert all(argument.description for argument in arguments)


def started(**given: str) -> list[Any]:
    """The nodes that detector.launch.py starts with these arguments."""
    module = load(ROOT / "launch" / "detector.launch.py")
    launch: Any = pytest.importorskip("launch")
    context = launch.LaunchContext()
    for name, default, _ in module.ARGUMENTS:
        context.launch_configurations[name] = given.get(name, default)
    nodes: list[Any] = module._nodes(context)
    return nodes


def test_the_detector_launch_file_starts_detector_and_overlay() -> None:
    assert [node.node_executable for node in started()] == ["detector", "overlay"]
    names = {name for name, _, _ in load(ROOT / "launch" / "detector.launch.py").ARGUMENTS}
    assert names >= {
        "image_topic", "cameras", "bundle", "prompt_set", "threshold", "backend", "use_sim_time", "overlay",
        "autostart",
    }  # fmt: skip


def test_each_of_several_cameras_has_its_overlay() -> None:
    nodes = started(cameras="front, rear", image_topic="image_raw")
    assert [node.node_executable for node in nodes] == ["detector", "overlay", "overlay"]
