"""The command line as a whole: help, mistakes, exit statuses, and that options are those of the settings."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cyclopts import App

from vl4ad_ros import __version__
from vl4ad_ros.cli import main as cli
from vl4ad_ros.io.bag_writer import BagWriter
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.settings import MapSettings, ModelSettings, PromptSettings


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


@pytest.fixture
def place(mock_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the commands are run in: a bundle `mock`, a picture, a bag, and files that are neither."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((48, 64, 3), np.uint8))
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/image_raw", "sensor_msgs/msg/Image")
        bag.write("/image_raw", 1, bag.image(np.zeros((16, 16, 3), np.uint8), "rgb8", 1, ""))
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "lights.yaml").write_text("name: lights\nclasses: {stop: [red]}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


DETECT, EXPORT, DRIVE = "detect a.png --out o --bundle mock", "export onnx x --out o", "sample-drive --out o"
BAG, COMPILE = "evaluate bag bag --bundle mock --out o", "prompts compile lights.yaml --encoder x"


@pytest.mark.parametrize(
    ("command", "keyword"),
    [
        ("", "needs one of"),
        ("evaluate", "calibrate"),
        ("nonsense", "nonsense"),
        ("detect", "INPUTS"),
        ("detect a.png", "--out"),
        ("detect none.png --out o", "none.png"),
        ("detect empty --out o", "no pictures"),
        ("detect notes.txt --out o", "neither a picture"),
        (f"{DETECT} --nonsense", "--nonsense"),
        (f"{DETECT} --threshold", "--threshold"),
        (f"{DETECT} --threshold 1.5", "--threshold"),
        (f"{DETECT} --threshold nan", "--threshold"),
        (f"{DETECT} --threads 1.5", "--threads"),
        (f"{DETECT} --threads 100000", "--threads"),
        (f"{DETECT} --scoring x", "--scoring"),
        (f"{DETECT} --format bmp", "--format"),
        (f"{DETECT} --temperature -1", "--temperature"),
        (f"{DETECT} --prompt-set none", "'none'"),
        (f"{DETECT} --method random_word", "random_word"),
        (f"{DETECT} --threshold -0.1", "--threshold"),
        ("detect . --out . --bundle mock", "--out"),
        ("detect a.png empty/.. --out ./.", "--out"),
        ("explain a.png --at a,b", "--at"),
        ("explain a.png --at 64,0", "--at"),
        ("explain a.png --at 5,5,5,9", "--at"),
        (f"{DRIVE} --frames 1.5", "--frames"),
        (f"{DRIVE} --frames 0", "frame"),
        (f"{DRIVE} --seed 1e3", "--seed"),
        (f"{DRIVE} --size 96", "WIDTHxHEIGHT"),
        (f"{DRIVE} --rate 0", "--rate"),
        (f"{DRIVE} --rate 1e-300", "--rate"),
        ("make-bag a.png --out o --rate 1e-300", "--rate"),
        ("make-bag a.png --out o --rate nan", "--rate"),
        (f"{DRIVE} --jobs -1", "--jobs"),
        ("replay none", "none"),
        ("replay old.bag", "ROS 1"),
        ("replay bag --rate 1e-300", "--rate"),
        ("replay bag --topic /none", "/none"),
        ("replay bag --clock --restamp", "--restamp"),
        ("replay bag --subscribers 1 --timeout 0.1", "0 of 1 subscribers"),
        ("demo --out o --bundle mock --topic /camera", "bag"),
        ("demo --out o --bundle none", "'none'"),
        ("demo --out o --bundle mock --bag none", "no bag none"),
        ("demo --out o --bundle mock --bag o/drive", "anew"),
        (f"{BAG} --jobs 0", "--jobs"),
        (f"{BAG} --live --rate nan", "--rate"),
        (f"{BAG} --track lane", "--track"),
        (f"{BAG} --image-topic /image_raw --label-topic /image_raw", "mono8"),
        ("evaluate compare o o --max-drop nan", "--max-drop"),
        ("evaluate compare o o --max-drop -1", "--max-drop"),
        ("bench ros --rate 1e-300", "--rate"),
        ("evaluate calibrate bag --bundle mock", "one target"),
        ("evaluate calibrate bag --bundle mock --per-frame nan", "--per-frame"),
        ("evaluate calibrate bag --bundle mock --per-frame 0.1 --per-km 1", "one target"),
        ("evaluate calibrate bag --bundle mock --per-km 1", "--km"),
        ("evaluate calibrate bag --bundle mock --per-km 1 --km 0", "--km"),
        ("evaluate calibrate bag --bundle mock --per-km -1 --km 2", "--per-km"),
        ("evaluate calibrate bag --bundle mock --per-km 1 --speed-kmh -3", "--speed-kmh"),
        (f"{EXPORT} --prompts", "--prompts"),
        (f"{EXPORT} --prompts a.safetensors", "a.safetensors"),
        (EXPORT, "prompt set"),
        (f"{EXPORT} --size 0x12", "0x12"),
        (f"{EXPORT} --size 60x96 --prompts a", "multiples of 32"),
        (f"{EXPORT} --columns 0", "--columns"),
        ("export tensorrt none", "'none'"),
        ("export tensorrt mock --max-batch 0", "--max-batch"),
        (COMPILE, "--out"),
        (f"{COMPILE} --out o.txt", ".safetensors"),
        (f"{COMPILE} --out o.safetensors", "'x'"),
        (f"{COMPILE} --out o.safetensors --from-npy none.npy", "none.npy"),
        (f"{COMPILE} --out o.safetensors --weights none.pt", "none.pt"),
        (f"{COMPILE} --out o.safetensors --weights notes.txt", "weights"),
        (f"{COMPILE} --out o.safetensors --weights w --from-npy n", "exclude"),
        ("prompts compile lights.yaml --bundle none", "'none'"),
        ("random-word train --words a-b", "--words"),
    ],
)
def test_mistakes_are_status_2_and_one_sentence(
    command: str, keyword: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if command.startswith(("replay", "demo")):
        pytest.importorskip("rclpy")
    before = set(place.iterdir())
    assert cli.main(command.split()) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("vl4ad: ")
    assert keyword in line
    assert set(place.iterdir()) - before <= {place / "o"}


def test_help_needs_neither_torch_nor_ros() -> None:
    code = (
        "import sys; from vl4ad_ros.cli import main as m\n"
        "app = m.make_app()\n"
        "for command in app.resolved_commands().values(): command.resolved_commands()\n"
        "print([n for n in ('torch', 'rclpy', 'onnxruntime', 'matplotlib', 'h5py') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
