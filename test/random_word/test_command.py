"""The `vl4ad random-word` command, end to end on small things."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from toy_text import ToyEncoder, toy_family

from vl4ad_ros.cli.main import main
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.prompts import encoders
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.random_word_files import install
from vl4ad_ros.runtime.random_word_network import load_network, untrained_network


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A family and settings on disk; the toy encoder under its id."""
    monkeypatch.setattr(encoders, "create_encoder", lambda encoder_id, weights=None: ToyEncoder())
    (tmp_path / "family.yaml").write_text(json.dumps(toy_family().model_dump()))
    settings = {"family": str(tmp_path / "family.yaml"), "text_encoder": ToyEncoder.id, "samples": 250, "batch": 32}
    settings |= {"validation_samples": 30, "epochs": 20, "hidden": 8, "rate": 5e-3}
    (tmp_path / "toy.yaml").write_text(json.dumps(settings))
    return tmp_path


def test_train_writes_a_network_that_inspect_explains(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = toy / "networks" / "n.safetensors"
    command = ["random-word", "train", str(toy / "toy.yaml"), "--output", str(out), "--words", "2-3", "--seed", "4"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert f"wrote {out}" in said.out
    assert "held-out all: AUROC" in said.out
    assert "pass 1: loss" in said.err
    network = load_network(out)
    assert network.card["settings"]["words"]["most"] == 3
    assert network.card["settings"]["seed"] == 4
    assert network.card["validation"]["words"]["auroc"] > 0.9
    assert main(["random-word", "inspect", str(out)]) == 0
    assert json.loads(capsys.readouterr().out) == network.card


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train"], "Name a bundle to install the network into"),
        (["train", "--output", "n.txt"], "--output must be a .safetensors file, got n.txt"),
        (["train", "--output", "x.safetensors", "--words", "few"], "--words takes a number or a range"),
        (["train", "--output", "x.safetensors", "--words", "4-2"], "least <= most"),
        (["train", "--output", "x.safetensors", "--images", "."], "--images needs --bundle"),
        (["train", "--bundle", "none"], "There is no model bundle 'none'"),
        (["inspect", "none.safetensors"], "cannot be read as a random-word network"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], sentence: str, toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if arguments[0] == "train":
        arguments = ["train", str(toy / "toy.yaml"), *arguments[1:]]
    assert main(["random-word", *arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes before the first embedding is before the work."""

    def encode(self: ToyEncoder, texts: list[str]) -> None:
        pytest.fail("it began to work")

    monkeypatch.setattr(ToyEncoder, "encode", encode)


def test_what_cannot_be_written_is_found_before_the_work(
    toy: Path, no_work: None, mock_bundle: Path, both_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (toy / "file").touch()
    (toy / "folder.safetensors").mkdir()
    (toy / "images").mkdir()
    (toy / "pictures").mkdir()
    cv2.imwrite(str(toy / "pictures/0.png"), np.zeros((8, 8, 3), np.uint8))
    blocked = str(toy / "file" / "n.safetensors")
    settings, both = str(toy / "toy.yaml"), ["--bundle", str(both_bundle), "--text-encoder", "mock:rgb"]
    for arguments, sentence in (
        (["train", settings, "--output", blocked], "n.safetensors: cannot be written"),
        (["train", settings, "--output", str(toy / "folder.safetensors")], "is a folder; name a file"),
        (["train", settings, "--bundle", str(mock_bundle)], "no random-word inputs"),
        (["train", settings, *both, "--name", "../x"], "letters, digits, _ and - only, got '../x'"),
        (["train", settings, *both, "--images", str(toy / "images")], "holds no images"),
        (
            ["train", settings, "--bundle", str(both_bundle), "--text-encoder", "x"],
            "needs a network of the text encoder",
        ),
        (
            ["compare", settings, "--bundle", "x", "--data", "road_anomaly=x", "--output", str(toy / "file")],
            "cannot be",
        ),
    ):
        assert main(["random-word", *arguments]) == 2
        assert sentence in capsys.readouterr().err
    assert sorted(path.name for path in toy.iterdir() if path.name.startswith(".")) == []
    # A place where nothing stands in the way is left as it was.
    (both_bundle / "random_word").write_text("in the way")
    assert main(["random-word", "train", settings, *both]) == 2
    assert "default.safetensors: cannot be written" in capsys.readouterr().err


def test_an_interrupted_write_keeps_the_network_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vl4ad_ros.runtime import tensor_files as module

    path = tmp_path / "n.safetensors"
    untrained_network(3, "mock:rgb").save(path)
    before = path.read_bytes()

    def full(tensors: object, name: str, metadata: object) -> None:
        Path(name).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(Vl4adError, match=r"n\.safetensors: cannot be written \(No space left"):
        untrained_network(3, "mock:rgb", 1).save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["n.safetensors"]


def test_help_shows_the_defaults_that_say_something_once(capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("train", "gap", "thresholds", "inspect", "compare"):
        with pytest.raises(SystemExit):
            main(["random-word", action, "--help"])
        said = " ".join(capsys.readouterr().out.split())
        assert "(default: None)" not in said
        assert "(default: False)" not in said
        assert "(default: [])" not in said
        if action == "train":
            assert "name of the network in the bundle (default: default)" in said


def test_inspect_takes_any_network_of_a_bundle(both_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = replace(untrained_network(3, "mock:rgb"), card={"kind": "mine"})
    install(ModelBundle.load(both_bundle), made, "mine")
    assert main(["random-word", "inspect", str(both_bundle), "--name", "mine"]) == 0
    assert json.loads(capsys.readouterr().out) == {"kind": "mine"}
    assert main(["random-word", "inspect", str(both_bundle)]) == 2
    assert "expected one of ['mine'], got 'default'" in capsys.readouterr().err
