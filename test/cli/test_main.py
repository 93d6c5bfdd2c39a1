from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from vl4ad_ros import __version__
from vl4ad_ros.cli import main as cli
from vl4ad_ros.cli.bench_gpu import FORMS
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.engine import BACKENDS
from vl4ad_ros.runtime.scores import METHODS, SCORINGS


def fake(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    """Put a command in the place of `detect`."""

    def add_arguments(parser: Any) -> None:
        parser.add_argument("--number", type=int, default=7, help="a number")
        parser.add_argument("--name", help="a name")

    module = SimpleNamespace(HELP="Test.", add_arguments=add_arguments, run=run)
    monkeypatch.setattr(cli, "load", lambda name: module)


def raising(error: BaseException) -> Any:
    def run(args: Any) -> int:
        raise error

    return run


def every_action(name: str) -> Iterator[tuple[argparse.ArgumentParser, argparse.Action]]:
    """The options of a command and of all its sub-commands, each with its parser."""
    parsers = [cli.command_parser(name)]
    while parsers:
        parser = parsers.pop()
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
            yield parser, action


def test_help_names_every_command_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for name in cli.COMMANDS:
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [name]] or [""]
        assert line, name


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    assert f"usage: vl4ad {name}" in capsys.readouterr().out
    for parser, action in every_action(name):
        if isinstance(action, argparse._SubParsersAction):
            assert len(action._choices_actions) == len(action.choices), f"{parser.prog}: an action has no help"
        else:
            assert action.help, f"{parser.prog}: {action.dest} has no help"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"vl4ad_ros {__version__}\n"


def test_a_users_mistake_is_one_sentence_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, raising(Vl4adError("That is wrong; do this.")))
    assert cli.main(["detect"]) == 2
    assert capsys.readouterr().err == "vl4ad: That is wrong; do this.\n"


def test_an_interruption_is_status_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake(monkeypatch, raising(KeyboardInterrupt()))
    assert cli.main(["detect"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_bug_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["detect"])


def test_the_status_is_the_commands_own(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, lambda args: int(args.number))
    assert cli.main(["detect", "--number", "5"]) == 5


def test_help_shows_the_defaults_that_say_something(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, lambda args: 0)
    with pytest.raises(SystemExit):
        cli.main(["detect", "--help"])
    text = capsys.readouterr().out
    assert "a number (default: 7)" in text
    assert "None" not in text


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_every_sub_command_shows_no_empty_default_and_none_twice(name: str) -> None:
    for parser, action in every_action(name):
        if isinstance(action, argparse._SubParsersAction):
            continue
        shown = argparse.ArgumentParser._get_formatter(parser)._expand_help(action)
        assert shown.count("default:") <= 1, f"{parser.prog}: {action.dest}: {shown}"
        assert not re.search(r"default: (None|False|\[\]|\(|\))", shown), f"{parser.prog}: {action.dest}: {shown}"
        if isinstance(action.default, int) and not isinstance(action.default, bool) and action.option_strings:
            assert f"default: {action.default}" in shown, f"{parser.prog}: {action.dest}: {shown}"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["bench", "gpu"], FORMS),
        (["bench", "engine"], BACKENDS),
        (["evaluate", "dataset"], (*BACKENDS, *SCORINGS, *METHODS, "both")),
        (["evaluate", "bag"], (*BACKENDS, *SCORINGS, *METHODS, "both")),
        (["export", "onnx"], ("default: 1024x2048",)),
    ],
    ids=" ".join,
)
def test_help_names_what_an_option_takes(
    words: list[str], names: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit):
        cli.main([*words, "--help"])
    text = capsys.readouterr().out
    for name in names:
        assert re.search(rf"(?<![\w-]){name}(?![\w-])", text), name


def test_sizes_by_default_are_read_like_given_ones() -> None:
    assert cli.command_parser("bench").parse_args(["scoring"]).size == (1024, 2048)
    assert cli.command_parser("bench").parse_args(["engine"]).size == (720, 1280)
    assert cli.command_parser("export").parse_args(["onnx", "x", "--out", "y"]).size == (1024, 2048)


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["detect"], ["detect", "--nonsense"]])
def test_wrong_usage_is_status_2_with_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert "usage: vl4ad" in capsys.readouterr().err


def test_help_needs_neither_torch_nor_ros() -> None:
    code = (
        "import sys; from vl4ad_ros.cli import main as m\n"
        "for name in m.COMMANDS: m.command_parser(name)\n"
        "print([n for n in ('torch', 'rclpy', 'onnxruntime') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
