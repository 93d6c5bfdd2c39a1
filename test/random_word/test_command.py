"""The `vl4ad random-word` command, end to end on small things."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from run_cli import Cli
from toy_text import ToyEncoder, toy_family

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


def test_train_writes_a_network_that_inspect_explains(toy: Path, cli: Cli) -> None:
    out = toy / "networks" / "n.safetensors"
    said = cli("random-word", "train", toy / "toy.yaml", "--output", out, "--words", "2-3", "--seed", "4")
    assert f"wrote {out}" in said
    assert "held-out all: AUROC" in said
    network = load_network(out)
    assert network.card["settings"]["words"]["max_words"] == 3
    assert network.card["settings"]["seed"] == 4
    assert network.card["validation"]["words"]["auroc"] > 0.9
    assert json.loads(cli("random-word", "inspect", out)) == network.card


BOTH = ["train", "{toy}/toy.yaml", "--bundle", "{both}"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "{toy}/toy.yaml"], "--bundle"),
        (["train", "{toy}/toy.yaml", "--output", "n.txt"], "n.txt"),
        (["train", "{toy}/toy.yaml", "--output", "x.safetensors", "--words", "few"], "--words"),
        (["train", "{toy}/toy.yaml", "--output", "x.safetensors", "--words", "4-2"], "min_words"),
        (["train", "{toy}/toy.yaml", "--output", "x.safetensors", "--images", "."], "--images"),
        (["train", "{toy}/toy.yaml", "--output", "{toy}/toy.yaml/n.safetensors"], "cannot be written"),
        (["train", "{toy}/toy.yaml", "--bundle", "none"], "no model bundle 'none'"),
        ([*BOTH, "--text-encoder", "x"], "text encoder"),
        ([*BOTH, "--text-encoder", "mock:rgb", "--name", "../x"], "'../x'"),
        ([*BOTH, "--text-encoder", "mock:rgb", "--images", "{toy}"], "holds no images"),
        (["compare", "--bundle", "x", "--data", "road_anomaly=x", "--output", "{toy}/toy.yaml"], "cannot be written"),
        (["inspect", "none.safetensors"], "cannot be read"),
    ],
)
def test_mistakes_are_found_before_the_work(
    arguments: list[str],
    sentence: str,
    toy: Path,
    both_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: Cli,
) -> None:
    monkeypatch.setattr(ToyEncoder, "encode", lambda *_: pytest.fail("it began to work"))
    error = cli.error("random-word", *(word.format(toy=toy, both=both_bundle) for word in arguments))
    assert sentence in error
    assert "Traceback" not in error


def test_inspect_takes_any_network_of_a_bundle(both_bundle: Path, cli: Cli) -> None:
    made = replace(untrained_network(3, "mock:rgb"), card={"kind": "mine"})
    install(ModelBundle.load(both_bundle), made, "mine")
    assert json.loads(cli("random-word", "inspect", both_bundle, "--name", "mine")) == {"kind": "mine"}
    assert "expected one of ['mine'], got 'default'" in cli.error("random-word", "inspect", both_bundle)
