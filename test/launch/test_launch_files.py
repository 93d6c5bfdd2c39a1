"""The launch files: their arguments, and what they start."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from launch_stand_in import ROOT, LaunchFile, put_in_place

from vl4ad_ros.io.bag_writer import COMPRESSED, IMAGE, BagWriter
from vl4ad_ros.runtime.settings import BY_NAME, PARAMETERS

Start = Callable[..., list[Any]]


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_place(partial(monkeypatch.setitem, sys.modules))


@pytest.fixture
def detector() -> LaunchFile:
    return LaunchFile("detector")


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """What replay.launch.py starts with these arguments."""
    (tmp_path / "drive").mkdir()
    file = LaunchFile("replay")
    return lambda **given: file.start(**({"bag": str(tmp_path / "drive")} | given))


@pytest.mark.parametrize("name", ["detector", "replay"])
def test_every_argument_has_a_sentence(name: str) -> None:
    arguments = LaunchFile(name).arguments()
    names = [argument.positional[0] for argument in arguments]
    assert len(set(names)) == len(names) > 5
    assert all(argument.description.strip().endswith(".") for argument in arguments)


def test_every_parameter_is_an_argument_that_is_unset_unless_given(detector: LaunchFile) -> None:
    """A default here would win over the parameter file, though nobody gave it."""
    defaults = {part.positional[0]: part.default_value for part in detector.arguments()}
    assert defaults.keys() >= BY_NAME.keys() | {"image_topic", "use_sim_time", "overlay"}
    assert {defaults[parameter.name] for parameter in PARAMETERS} == {""}


def test_replay_leaves_the_detectors_arguments_to_the_command_line() -> None:
    file = LaunchFile("replay")
    (include,) = file.of("IncludeLaunchDescription")
    assert dict(include.launch_arguments).keys() == {"image_topic", "use_sim_time", "exit_on_fault"}
    own = {part.positional[0] for part in file.arguments()}
    assert own & BY_NAME.keys() == {"compressed"}, "the player needs to know that one"


def test_given_arguments_become_parameters_of_their_type(detector: LaunchFile) -> None:
    node, overlay = detector.start(threshold="0.6", compressed="true", min_region_area="7", roi_masks="['a.png']")
    file, given = node.parameters
    assert file == str(ROOT / "config" / "detector.yaml")
    types = {name: value.value_type for name, value in given.items()}
    assert types == {"threshold": float, "compressed": bool, "min_region_area": int, "roi_masks": list[str]}
    assert overlay.parameters[1].keys() == {"compressed", "camera"}


def test_detector_and_one_overlay_for_each_camera(detector: LaunchFile, tmp_path: Path) -> None:
    assert [node.executable for node in detector.start()] == ["detector", "overlay"]
    node, *overlays = detector.start(cameras="front, rear", image_topic="image_raw")
    assert node.parameters[-1] == {"cameras": ["front", "rear"]}
    assert [overlay.parameters[1]["camera"] for overlay in overlays] == ["front", "rear"]
    file = tmp_path / "mine.yaml"
    file.write_text("detector:\n  ros__parameters: {threshold: 0.5, cameras: [front, rear]}\n")
    node, *overlays = detector.start(params_file=str(file))
    assert node.parameters == [str(file)], "nothing but the file"
    assert len(overlays) == 2


def test_the_camera_info_is_remapped_only_where_a_topic_is_given(detector: LaunchFile) -> None:
    """Else the node hears the one beside the image, which a remapping would hide."""

    def remapped(**given: str) -> dict[str, str]:
        return dict(detector.start(**given)[0].remappings)

    assert remapped(image_topic="/camera/image_raw") == {
        "image": "/camera/image_raw",
        "image/compressed": "/camera/image_raw/compressed",
    }
    assert remapped(image_topic="/camera/image_raw", camera_info_topic="/calibration")["camera_info"] == "/calibration"
    several = remapped(cameras="front,rear", image_topic="image_raw", camera_info_topic="calibration")
    assert several["rear/camera_info"] == "rear/calibration"


@pytest.mark.parametrize("respawn", [False, True])
def test_the_nodes_are_started_again_where_that_is_asked_for(detector: LaunchFile, respawn: bool) -> None:
    assert {node.respawn for node in detector.start(respawn=str(respawn).lower())} == {respawn}


@pytest.mark.parametrize("kind", ["xml", "yaml"])
def test_the_examples_give_known_arguments(detector: LaunchFile, kind: str) -> None:
    text = (ROOT / "launch" / "examples" / f"include.launch.{kind}").read_text(encoding="utf-8")
    if kind == "xml":
        include = ET.fromstring(text).find("include")
        assert include is not None
        file, names = include.attrib["file"], {arg.attrib["name"] for arg in include.iter("arg")}
    else:
        (include,) = (entry["include"] for entry in yaml.safe_load(text)["launch"] if "include" in entry)
        file, names = include["file"], {arg["name"] for arg in include["arg"]}
    assert file == "$(find-pkg-share vl4ad_ros)/launch/detector.launch.py"
    assert names
    assert names <= {part.positional[0] for part in detector.arguments()}


def test_the_parameter_file_names_known_parameters() -> None:
    content = yaml.safe_load((ROOT / "config" / "detector.yaml").read_text(encoding="utf-8"))
    given = content["/**"]["ros__parameters"]
    assert given
    for name, value in given.items():
        assert type(value) is BY_NAME[name].type


def processes(actions: list[Any]) -> dict[str, Any]:
    return {action.name: action for action in actions if type(action).__name__ == "ExecuteProcess"}


def end(actions: list[Any], process: Any, status: int, shutdown: bool = False) -> list[Any]:
    """Tell the launch file that a process has ended; return what it does then, as the launch service would."""
    event = SimpleNamespace(action=process, process_name="it-1", returncode=status)
    then: list[Any] = []
    for handler in (action.positional[0] for action in actions if type(action).__name__ == "RegisterEventHandler"):
        if getattr(handler, "target_action", process) is process:
            found = handler.on_exit
            then += found(event, SimpleNamespace(is_shutdown=shutdown)) if callable(found) else found
    return then


def test_the_evaluator_runs_after_a_good_recording_and_ends_the_run(start: Start, tmp_path: Path) -> None:
    actions = start(out=str(tmp_path / "out"))
    begun = processes(actions)
    assert begun.keys() == {"recorder", "player"}
    assert end(actions, begun["player"], 0) == []
    (evaluator,) = end(actions, begun["recorder"], 0)
    assert evaluator.name == "evaluator"
    (last,) = end(actions, evaluator, 0)
    assert type(last.event).__name__ == "Shutdown"


@pytest.mark.parametrize("name", ["recorder", "player"])
@pytest.mark.parametrize("status", [1, 2, -9])
def test_no_step_follows_one_that_failed(start: Start, tmp_path: Path, name: str, status: int) -> None:
    actions = start(out=str(tmp_path / "out"))
    with pytest.raises(RuntimeError, match=f"status {status}"):
        end(actions, processes(actions)[name], status)


def test_a_failed_evaluation_is_a_failed_run(start: Start, tmp_path: Path) -> None:
    actions = start(out=str(tmp_path / "out"))
    (evaluator,) = end(actions, processes(actions)["recorder"], 0)
    with pytest.raises(RuntimeError, match="status 2"):
        end(actions, evaluator, 2)


@pytest.mark.parametrize("status", [0, 1, -11])
def test_a_node_that_ends_before_the_run_fails_it(start: Start, status: int) -> None:
    with pytest.raises(RuntimeError, match=f"status {status}"):
        end(start(), object(), status)


@pytest.mark.parametrize("status", [0, 2])
def test_the_report_names_a_node_that_has_died(start: Start, tmp_path: Path, status: int) -> None:
    actions = start(out=str(tmp_path / "out"))
    begun = processes(actions)
    assert [type(one.event).__name__ for one in end(actions, object(), -11)] == ["SignalProcess"] * 2
    assert end(actions, begun["player"], 130) == []
    (evaluator,) = end(actions, begun["recorder"], 0)
    assert "status -11" in evaluator.cmd[evaluator.cmd.index("--note") + 1]
    with pytest.raises(RuntimeError, match="status -11"):
        end(actions, evaluator, status)


@pytest.mark.parametrize("jpeg", [False, True])
def test_replay_plays_a_bag_of_jpegs_as_that(start: Start, tmp_path: Path, jpeg: bool) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/lens/image/compressed" if jpeg else "/lens/image", COMPRESSED if jpeg else IMAGE)
    begun = start(bag=str(tmp_path / "bag"))
    (given,) = [one for one in begun if type(one).__name__ == "SetLaunchConfiguration"]
    assert given.positional == ("compressed", str(jpeg).lower())
    player = processes(begun)["player"]
    assert player.cmd[player.cmd.index("--to") + 1].endswith("/compressed") == jpeg


def test_what_ends_at_the_shutdown_is_no_failure(start: Start, tmp_path: Path) -> None:
    actions = start(out=str(tmp_path / "out"))
    for process in (object(), *processes(actions).values()):
        assert end(actions, process, -2, shutdown=True) == []


def test_playing_alone_ends_with_the_bag_and_fails_with_the_player(start: Start) -> None:
    actions = start()
    (player,) = processes(actions).values()
    (last,) = end(actions, player, 0)
    assert type(last.event).__name__ == "Shutdown"
    with pytest.raises(RuntimeError, match="status 2"):
        end(actions, player, 2)


@pytest.mark.parametrize("name", ["recording", "sent.jsonl", "report"])
def test_a_folder_with_a_part_of_another_run_is_refused_and_left_alone(start: Start, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    (out / name).mkdir(parents=True)
    (out / name / "mine").write_text("keep")
    with pytest.raises(RuntimeError, match=f"holds {name} of another run"):
        start(out=str(out))
    assert (out / name / "mine").read_text() == "keep"


def test_other_files_in_the_folder_do_no_harm(start: Start, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert processes(start(out=str(tmp_path)))


def test_a_bag_that_is_not_there_leaves_no_folder(start: Start, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="there is no bag"):
        start(bag=str(tmp_path / "drivel"), out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
