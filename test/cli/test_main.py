"""The command line as a whole: help, mistakes, exit statuses, and that options are those of the settings."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from cyclopts import App

from vl4ad_ros import __version__
from vl4ad_ros.cli import main as cli
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.engine import BACKENDS
from vl4ad_ros.runtime.scores import METHODS, SCORINGS
from vl4ad_ros.runtime.settings import MapSettings, ModelSettings, PromptSettings

BY_BENCH_GPU = ("torch-eager", "torch-cuda-graph", "onnxruntime", "tensorrt_rtx")


def every_command() -> Iterator[tuple[str, ...]]:
    for name, command in cli.COMMANDS.items():
        yield from ((name, action) for action in command[1]) if isinstance(command, tuple) else ((name,),)


def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """What `--help` of a command prints on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "600")
    assert cli.main([*words, "--help"]) == 0
    return capsys.readouterr().out


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put another function in the place of all commands."""

    def replace(function: Any) -> None:
        app = App(name="vl4ad", result_action="return_value", exit_on_error=False, print_error=False)
        app.command(function, name="detect")
        app.suppress_keyboard_interrupt = False
        monkeypatch.setattr(cli, "make_app", lambda: app)

    return replace


def raising(error: BaseException) -> Any:
    def command() -> None:
        raise error

    return command


def test_help_names_every_command_with_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in ((), *((name,) for name, command in cli.COMMANDS.items() if isinstance(command, tuple))):
        known = cli.COMMANDS if not words else cli.COMMANDS[words[0]][1]
        text = shown(capsys, monkeypatch, *words)
        for name in known:
            assert re.search(rf"^. {name} +\w.*\.", text, re.MULTILINE), name


@pytest.mark.parametrize("words", list(every_command()), ids=" ".join)
def test_every_option_has_help_and_no_empty_default(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(capsys, monkeypatch, *words)
    assert f"Usage: vl4ad {' '.join(words)}" in text
    options = [line.strip("│* ") for line in text.splitlines() if re.match(r"│[ *]+(--)?[A-Za-z]", line)]
    assert options
    for option in options:
        name, _, rest = option.partition(" ")
        assert re.match(r"[^\[]", rest.strip()), f"{name} has no help"
        assert not re.search(r"default: (None|False|\[|\(|\])", rest), option


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"vl4ad_ros {__version__}\n"


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (Vl4adError("That is wrong; do this."), 2, "vl4ad: That is wrong; do this.\n"),
        (PermissionError(13, "Permission denied", "/x/y"), 2, "vl4ad: /x/y: Permission denied.\n"),
        (KeyboardInterrupt(), 130, "vl4ad: interrupted\n"),
    ],
)
def test_what_a_command_raises_is_one_sentence(
    error: BaseException, status: int, sentence: str, replaced: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    replaced(raising(error))
    assert cli.main(["detect"]) == status
    assert capsys.readouterr().err == sentence


@pytest.mark.parametrize(
    "error",
    [RecursionError("too deep"), MemoryError(), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), ValueError("a\nb")],
)
def test_what_nobody_expected_is_one_line(
    error: Exception, replaced: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced(raising(error))
    assert cli.main(["detect"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert type(error).__name__ in line
    monkeypatch.setenv(cli.TRACEBACK, "1")
    with pytest.raises(type(error)):
        cli.main(["detect"])


def test_the_status_is_the_commands_own(replaced: Any) -> None:
    def command(*, number: int = 7) -> int:
        return number

    replaced(command)
    assert cli.main(["detect", "--number", "5"]) == 5


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["bench", "gpu"], BY_BENCH_GPU),
        (["bench", "engine"], BACKENDS),
        (["evaluate", "dataset"], (*BACKENDS, *SCORINGS, *METHODS, "both", "road_anomaly", "mvtec")),
        (["evaluate", "bag"], (*BACKENDS, *SCORINGS, *METHODS, "both")),
        (["export", "onnx"], ("1024x2048", "float16")),
    ],
    ids=" ".join,
)
def test_help_names_what_an_option_takes(
    words: list[str], names: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(capsys, monkeypatch, *words)
    for name in names:
        assert re.search(rf"(?<![\w-]){name}(?![\w-])", text), name


@pytest.mark.parametrize("words", [["detect"], ["demo"], ["evaluate", "dataset"], ["evaluate", "bag"]], ids=" ".join)
def test_options_are_made_of_the_settings(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(capsys, monkeypatch, *words)
    # `evaluate` adds `best` to the threshold.
    of_prompts = MapSettings if words[0] == "evaluate" else PromptSettings
    for name, field in (ModelSettings.model_fields | of_prompts.model_fields).items():
        assert f"--{name.replace('_', '-')} " in text
        assert str(field.description) in text


@pytest.mark.parametrize(
    ("arguments", "keyword"),
    [
        ([], "needs one of"),
        (["evaluate"], "calibrate"),
        (["nonsense"], "nonsense"),
        (["detect"], "INPUTS"),
        (["detect", "a.png"], "--out"),
        (["detect", "a.png", "--out", "o", "--nonsense"], "--nonsense"),
        (["detect", "a.png", "--out", "o", "--threshold"], "--threshold"),
        (["detect", "a.png", "--out", "o", "--threshold", "1.5"], "--threshold"),
        (["detect", "a.png", "--out", "o", "--threshold", "nan"], "--threshold"),
        (["detect", "a.png", "--out", "o", "--threads", "1.5"], "--threads"),
        (["detect", "a.png", "--out", "o", "--threads", "100000"], "--threads"),
        (["detect", "a.png", "--out", "o", "--scoring", "x"], "--scoring"),
        (["detect", "a.png", "--out", "o", "--format", "bmp"], "--format"),
        (["sample-drive", "--out", "o", "--frames", "1.5"], "--frames"),
        (["sample-drive", "--out", "o", "--seed", "1e3"], "--seed"),
        (["replay", "bag", "--rate", "1e-300"], "--rate"),
        (["evaluate", "bag", "x", "--out", "o", "--jobs", "0"], "--jobs"),
        (["evaluate", "bag", "x", "--out", "o", "--live", "--rate", "nan"], "--rate"),
        (["export", "onnx", "x", "--out", "o", "--prompts"], "--prompts"),
        (["export", "onnx", "x", "--out", "o", "--size", "0x12"], "0x12"),
        (["random-word", "train", "--words", "a-b"], "--words"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2_with_one_sentence(
    arguments: list[str], keyword: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("vl4ad: ") and error.count("\n") == 1
    assert keyword in error


def test_help_needs_neither_torch_nor_ros() -> None:
    code = (
        "import sys; from vl4ad_ros.cli import main as m\n"
        "app = m.make_app()\n"
        "for command in app.resolved_commands().values(): command.resolved_commands()\n"
        "print([n for n in ('torch', 'rclpy', 'onnxruntime', 'matplotlib', 'h5py') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
