from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mock_bundle import ColourEncoder

from vl4ad_ros.bundle import ModelBundle
from vl4ad_ros.cli.main import main
from vl4ad_ros.prompts.compiled import load_compiled
from vl4ad_ros.prompts.templates import VILD
from vl4ad_ros.resources import prompt_yamls

YAML = """
name: lights
description: Lights
classes:
  stop: [red]
  go: [green, yellow]
ood: [blue]
"""


@pytest.fixture
def yaml(tmp_path: Path) -> Path:
    path = tmp_path / "lights.yaml"
    path.write_text(YAML)
    return path


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the mock's text encoder to whoever asks for one; returns the ids asked for."""
    asked: list[str] = []

    def create(encoder_id: str, weights: Path | None = None) -> ColourEncoder:
        asked.append(encoder_id)
        return ColourEncoder()

    monkeypatch.setattr("vl4ad_ros.prompts.encoders.create_encoder", create)
    return asked


def test_compile_puts_a_set_into_a_bundle(mock_bundle: Path, yaml: Path, colours: list[str]) -> None:
    assert main(["prompts", "compile", str(yaml), "--bundle", str(mock_bundle)]) == 0
    assert colours == ["mock:rgb"]
    bundle = ModelBundle.load(mock_bundle)  # Checks the hashes of the refreshed card.
    compiled = bundle.load_prompt_set("lights")
    assert "prompts/lights.safetensors" in bundle.card.sha256
    assert compiled.columns == ("stop", "go", "blue")
    assert np.allclose(compiled.embeddings, ColourEncoder().encode(["red", "green", "yellow", "blue"]))


def test_an_unchanged_set_is_not_compiled_again(
    mock_bundle: Path, yaml: Path, colours: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(["prompts", "compile", str(yaml), "--bundle", str(mock_bundle)]) == 0
    assert len(colours) == 1
    assert "is up to date" in capsys.readouterr().out


def test_a_different_set_is_replaced_only_by_force(
    mock_bundle: Path, yaml: Path, colours: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["prompts", "compile", str(yaml), "--bundle", str(mock_bundle)]
    assert main(command) == 0
    before = (mock_bundle / "prompts/lights.safetensors").read_bytes()
    yaml.write_text(YAML.replace("[blue]", "[white]"))
    assert main(command) == 2
    assert "replace it with --force" in capsys.readouterr().err
    assert (mock_bundle / "prompts/lights.safetensors").read_bytes() == before
    assert main([*command, "--force"]) == 0
    assert ModelBundle.load(mock_bundle).load_prompt_set("lights").columns[-1] == "white"


def test_templates_in_place_of_the_set_s_own(
    yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[list[str]] = []
    names = ("red", "green", "yellow", "blue")

    class Listening(ColourEncoder):
        def encode(self, texts: list[str]) -> np.ndarray:
            calls.append(texts)
            return super().encode([next(name for name in names if name in text) for text in texts])

    monkeypatch.setattr("vl4ad_ros.prompts.encoders.create_encoder", lambda *_: Listening())
    out = tmp_path / "lights.safetensors"
    plain = ["prompts", "compile", str(yaml), "--encoder", ColourEncoder.id, "--out", str(out)]
    assert main([*plain, "--templates", "vild"]) == 0
    texts = [text for call in calls for text in call]
    assert texts == [template.format(name) for name in names for template in VILD]
    # Small batches, so that progress shows with a large text tower.
    assert max(map(len, calls)) <= 16
    assert main([*plain, "--templates", "vild"]) == 0
    assert "is up to date" in capsys.readouterr().out
    assert main(plain) == 2
    assert "replace it with --force" in capsys.readouterr().err
    assert main([*plain, "--templates", "vild", "--from-npy", "rows.npy"]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_embeddings_made_elsewhere_are_taken(yaml: Path, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(4, 2, 5))
    np.save(tmp_path / "rows.npy", rows)
    out = tmp_path / "lights.safetensors"
    command = ["prompts", "compile", str(yaml), "--encoder", "elsewhere", "--from-npy", str(tmp_path / "rows.npy")]
    assert main([*command, "--out", str(out)]) == 0
    compiled = load_compiled(out)
    unit = rows / np.linalg.norm(rows, axis=2, keepdims=True)
    mean = unit.mean(axis=1)
    assert np.allclose(compiled.embeddings, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)
    assert compiled.encoder_id == "elsewhere"


def test_a_set_of_another_dimension_does_not_get_into_a_bundle(
    mock_bundle: Path, yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "rows.npy", np.ones((4, 5)))
    command = ["prompts", "compile", str(yaml), "--bundle", str(mock_bundle), "--from-npy", str(tmp_path / "rows.npy")]
    assert main(command) == 2
    assert "dimension 5, bundle 'mock' needs 3" in capsys.readouterr().err
    assert "lights" not in ModelBundle.load(mock_bundle).prompt_set_names()


@pytest.mark.parametrize(
    ("change", "arguments", "sentence"),
    [
        ("temperature: -1", ["--encoder", "x", "--out", "o.safetensors"], "temperature"),
        ("colour: red", ["--encoder", "x", "--out", "o.safetensors"], "unknown key 'colour'"),
        ("", ["--encoder", "x"], "--out must name the .safetensors file"),
        ("", ["--encoder", "x", "--out", "o.txt"], "must be a .safetensors file"),
        ("", ["--encoder", "x", "--out", "o.safetensors"], "Unknown text encoder 'x'"),
        ("", ["--encoder", "x", "--out", "o.safetensors", "--from-npy", "none.npy"], "cannot be read as an .npy array"),
        ("", ["--bundle", "none"], "There is no model bundle 'none'"),
    ],
)
def test_mistakes_are_one_sentence(
    yaml: Path,
    change: str,
    arguments: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    yaml.write_text(YAML + change + "\n")
    assert main(["prompts", "compile", str(yaml), *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_wrong_rows_are_refused(yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "rows.npy", np.ones((3, 5)))
    out = str(tmp_path / "o.safetensors")
    command = [
        "prompts",
        "compile",
        str(yaml),
        "--encoder",
        "x",
        "--from-npy",
        str(tmp_path / "rows.npy"),
        "--out",
        out,
    ]
    assert main(command) == 2
    assert "expected floats [4, D] or [4, templates, D]" in capsys.readouterr().err


def test_list_and_inspect_show_what_there_is(mock_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompts", "list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in prompt_yamls())
    assert main(["prompts", "list", "--bundle", str(mock_bundle)]) == 0
    shown = capsys.readouterr().out
    assert "compiled for bundle mock (mock:rgb)" in shown
    assert "merged" in shown
    assert main(["prompts", "inspect", "merged", "--bundle", str(mock_bundle)]) == 0
    shown = capsys.readouterr().out
    assert "light            red, green (merged: stop, go)" in shown
    assert "1 out-of-distribution concepts\n  yellow" in shown
    assert main(["prompts", "inspect", "cityscapes_ood"]) == 0
    assert "caravan" in capsys.readouterr().out
    card = json.loads((mock_bundle / "card.json").read_text())
    assert card["default_prompt_set"] == "traffic"  # Looking changes nothing.
