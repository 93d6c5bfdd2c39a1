"""The steps of replay.launch.py: one after the other, and an end with an error where one fails.

The launch packages are on no registry: a stand-in that only keeps what it is given takes their place.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

FILE = Path(__file__).resolve().parent.parent.parent / "launch" / "replay.launch.py"
MODULES = (
    "launch", "launch.actions", "launch.event_handlers", "launch.events", "launch.events.process",
    "launch.launch_description_sources", "launch.substitutions",
)  # fmt: skip


class Part:
    """Any class of the launch packages: keeps its arguments as attributes."""

    def __init__(self, *positional: Any, **named: Any) -> None:
        self.positional = positional
        self.__dict__.update(named)

    def perform(self, context: Any) -> str:
        return str(context.given[self.positional[0]])


class StandIn(ModuleType):
    """A module of the launch packages."""

    def __getattr__(self, name: str) -> type[Part]:
        if name.startswith("_"):
            raise AttributeError(name)
        setattr(self, name, type(name, (Part,), {}))
        return getattr(self, name)  # type: ignore[no-any-return]


Start = Callable[..., list[Any]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Start:
    """What the launch file starts with these arguments."""
    for name in MODULES:
        monkeypatch.setitem(sys.modules, name, StandIn(name))
    spec = importlib.util.spec_from_file_location("replay_launch", FILE)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "drive").mkdir()

    def started(**given: str) -> list[Any]:
        context = SimpleNamespace(given={name: default for name, default, _ in module.ARGUMENTS})
        context.given |= {"bag": str(tmp_path / "drive")} | given
        actions: list[Any] = module._processes(context)
        return actions

    return started


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
def test_a_node_that_ends_before_the_run_fails_it(start: Start, tmp_path: Path, status: int) -> None:
    for out in ("", str(tmp_path / "out")):
        with pytest.raises(RuntimeError, match=f"status {status}"):
            end(start(out=out), object(), status)


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
