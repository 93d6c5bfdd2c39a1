"""The launch files: every argument described, and what they start."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = sorted((ROOT / "launch").glob("*.launch.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_launch_files_are_python(path: Path) -> None:
    """Where the launch packages are missing (they are on no registry), the syntax at least."""
    compile(path.read_text(encoding="utf-8"), str(path), "exec")


def test_the_parameter_file_names_known_parameters() -> None:
    parameters = pytest.importorskip("vl4ad_ros.runtime.settings")
    content = yaml.safe_load((ROOT / "config" / "detector.yaml").read_text(encoding="utf-8"))
    given = content["/**"]["ros__parameters"]
    assert given
    for name, value in given.items():
        assert type(value) is type(parameters.BY_NAME[name].default)


def tables(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The tables of arguments in a launch file, read without running it: the launch packages are on no registry."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id in ("ARGUMENTS", "PARAMETERS"):
            rows = cast(ast.Tuple, cast(Any, node).value).elts
            found[target.id] = [
                tuple(part.value if isinstance(part, ast.Constant) else ast.unparse(part) for part in row.elts)
                for row in rows
                if isinstance(row, ast.Tuple)
            ]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_argument_has_a_sentence(path: Path) -> None:
    rows = [row for table in tables(path).values() for row in table]
    assert len(rows) > 8
    for row in rows:
        assert len(row) == 3
        assert row[2].strip().endswith((".", ").")), row
    assert len({row[0] for row in rows}) == len(rows)


def test_the_arguments_that_are_parameters_have_their_types_and_no_default_of_their_own() -> None:
    """A default here would win over the parameter file, though nobody gave it."""
    declared = pytest.importorskip("vl4ad_ros.runtime.settings").BY_NAME
    found = tables(ROOT / "launch" / "detector.launch.py")
    for name, type_name, _ in found["PARAMETERS"]:
        if name != "use_sim_time":
            assert type(declared[name].default).__name__ == type_name
    overlap = {row[0] for row in found["ARGUMENTS"]} & declared.keys()
    assert overlap == {"cameras"}, "given as text, set only where it is not empty"
    passed_on = {row[0]: row[1] for row in tables(ROOT / "launch" / "replay.launch.py")["ARGUMENTS"]}
    assert all(passed_on[name] == "" for name in passed_on.keys() & declared.keys() - {"compressed"})


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
    for name, default, _ in (*module.ARGUMENTS, *((name, "", text) for name, _, text in module.PARAMETERS)):
        context.launch_configurations[name] = given.get(name, default)
    nodes: list[Any] = module._nodes(context)
    return nodes


def test_the_detector_launch_file_starts_detector_and_overlay() -> None:
    assert [node.node_executable for node in started()] == ["detector", "overlay"]
    module = load(ROOT / "launch" / "detector.launch.py")
    names = {name for name, _, _ in (*module.ARGUMENTS, *module.PARAMETERS)}
    assert names >= {
        "image_topic", "cameras", "bundle", "prompt_set", "threshold", "backend", "use_sim_time", "overlay",
        "autostart",
    }  # fmt: skip


def test_each_of_several_cameras_has_its_overlay() -> None:
    nodes = started(cameras="front, rear", image_topic="image_raw")
    assert [node.node_executable for node in nodes] == ["detector", "overlay", "overlay"]


def test_the_camera_info_is_remapped_only_where_a_topic_is_given() -> None:
    """Else the node hears the one beside the image, which a remapping would hide."""

    def remapped(**given: str) -> dict[str, str]:
        detector, *_ = started(**given)
        launch: Any = pytest.importorskip("launch")
        context = launch.LaunchContext()
        text = launch.utilities.perform_substitutions
        return {text(context, a): text(context, b) for a, b in detector._Node__remappings}

    assert remapped(image_topic="/camera/image_raw") == {
        "image": "/camera/image_raw",
        "image/compressed": "/camera/image_raw/compressed",
    }
    assert remapped(image_topic="/camera/image_raw", camera_info_topic="/calibration")["camera_info"] == "/calibration"
    several = remapped(cameras="front,rear", image_topic="image_raw", camera_info_topic="calibration")
    assert several["rear/camera_info"] == "rear/calibration"


def test_a_parameter_file_holds_where_no_argument_is_given(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("detector:\n  ros__parameters: {threshold: 0.5, cameras: [front, rear]}\n")
    detector, *overlays = started(params_file=str(file), image_topic="image_raw")
    assert len(overlays) == 2, "one for each camera of the file"
    assert len(detector._Node__parameters) == 1, "nothing but the file"
    detector, *_ = started(params_file=str(file), threshold="0.6")
    assert [name[0].text for name in detector._Node__parameters[1]] == ["threshold"]
