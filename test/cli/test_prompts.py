from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mock_bundle import ColourEncoder
from run_cli import Cli

from vl4ad_ros.cli.main import main
from vl4ad_ros.io.files import sha256_file
from vl4ad_ros.io.resources import prompt_yamls
from vl4ad_ros.prompts.schema import VILD
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.prompt_set import load_compiled

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


def test_a_different_set_is_replaced_only_by_force(mock_bundle: Path, yaml: Path, colours: list[str], cli: Cli) -> None:
    command = ["prompts", "compile", str(yaml), "--bundle", str(mock_bundle)]
    cli(*command)
    before = (mock_bundle / "prompts/lights.safetensors").read_bytes()
    yaml.write_text(YAML.replace("[blue]", "[white]"))
    assert "replace it with --force" in cli.error(*command)
    assert (mock_bundle / "prompts/lights.safetensors").read_bytes() == before
    cli(*command, "--force")
    assert ModelBundle.load(mock_bundle).load_prompt_set("lights").columns[-1] == "white"


def test_other_weights_make_another_set(yaml: Path, tmp_path: Path, colours: list[str], cli: Cli) -> None:
    out, weights = tmp_path / "lights.safetensors", tmp_path / "weights.pt"
    plain = ["prompts", "compile", str(yaml), "--encoder", ColourEncoder.id, "--out", str(out)]
    cli(*plain)
    before = out.read_bytes()
    weights.write_bytes(b"one")
    own = [*plain, "--weights", str(weights)]
    assert "made from other weights or embeddings; replace it with --force" in cli.error(*own)
    assert out.read_bytes() == before
    cli(*own, "--force")
    assert load_compiled(out).file_sha256 == sha256_file(weights)
    assert "is up to date" in cli(*own)
    weights.write_bytes(b"two")
    cli.error(*own)
    cli.error(*plain)
    assert len(colours) == 2
    cli(*plain, "--force")
    assert out.read_bytes() == before


@pytest.mark.parametrize("name", ["cityscapes", "cityscapes_ood"])
def test_sets_of_earlier_versions_stay_as_they_are(name: str, tmp_path: Path) -> None:
    """They record no file, read as before, and are written again as the same bytes."""
    file = Path(__file__).parents[2] / "models/vl4ad-small/prompts" / f"{name}.safetensors"
    compiled = load_compiled(file)
    assert compiled.file_sha256 is None
    compiled.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()
    newer = replace(compiled, file_sha256="ab" * 32)
    assert newer.version == compiled.version
    newer.save(tmp_path / "newer.safetensors")
    assert load_compiled(tmp_path / "newer.safetensors").file_sha256 == "ab" * 32


def test_templates_in_place_of_the_set_s_own(
    yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
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
    cli(*plain, "--templates", "vild")
    texts = [text for call in calls for text in call]
    assert texts == [template.format(name) for name in names for template in VILD]
    # Small batches, so that progress shows with a large text tower.
    assert max(map(len, calls)) <= 16
    assert "is up to date" in cli(*plain, "--templates", "vild")
    assert "replace it with --force" in cli.error(*plain)
    assert "exclude each other" in cli.error(*plain, "--templates", "vild", "--from-npy", "rows.npy")


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
    mock_bundle: Path, yaml: Path, tmp_path: Path, cli: Cli
) -> None:
    np.save(tmp_path / "rows.npy", np.ones((4, 5)))
    command = ["prompts", "compile", str(yaml), "--bundle", str(mock_bundle), "--from-npy", str(tmp_path / "rows.npy")]
    assert "dimension 5, bundle 'mock' needs 3" in cli.error(*command)
    assert "lights" not in ModelBundle.load(mock_bundle).prompt_set_names()


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=np.ones(3))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (npy(np.ones((3, 5))), "expected floats [4, D] or [4, templates, D]"),
        (npy(np.ones((4, 5), np.int64)), "expected floats [4, D] or [4, templates, D]"),
        (npy(np.ones((4, 0, 5))), "none of the sizes 0, got float64 (4, 0, 5)"),
        (npy(np.ones((4, 0))), "none of the sizes 0, got float64 (4, 0)"),
        (npy(np.array([[1.0], [2], [np.nan], [3]])), "an embedding of 'yellow' is zero or not finite"),
        (npy(np.array([[1.0], [2], [3], [0]])), "an embedding of 'blue' is zero or not finite"),
        (npy(np.array([[1e300], [2], [3], [1]])), "an embedding of 'red' is zero or not finite"),
        (npz(), "cannot be read as an .npy array (it is an archive of arrays"),
        (b"", "cannot be read as an .npy array (No data left in file)"),
        (npy(np.ones((4, 5)))[:-9], "cannot be read as an .npy array ("),
    ],
    ids=["rows", "integers", "no templates", "no length", "nan", "zero", "overflow", "npz", "empty", "cut"],
)
def test_wrong_rows_are_one_sentence(content: bytes, sentence: str, yaml: Path, tmp_path: Path, cli: Cli) -> None:
    rows, out = tmp_path / "rows.npy", tmp_path / "o.safetensors"
    rows.write_bytes(content)
    command = ["prompts", "compile", str(yaml), "--encoder", "x", "--from-npy", str(rows), "--out", str(out)]
    error = cli.error(*command)
    assert f"{rows}: " in error and sentence in error
    assert "encoder" not in error and error.count("\n") == 1
    assert not out.exists()


def test_list_and_inspect_show_what_there_is(mock_bundle: Path, cli: Cli) -> None:
    shown = cli("prompts", "list")
    assert all(name in shown for name in prompt_yamls())
    shown = cli("prompts", "list", "--bundle", mock_bundle)
    assert "compiled for bundle mock (mock:rgb)" in shown
    assert "merged" in shown
    shown = cli("prompts", "inspect", "merged", "--bundle", mock_bundle)
    assert "light            red, green (merged: stop, go)" in shown
    assert "1 out-of-distribution concepts\n  yellow" in shown
    assert "caravan" in cli("prompts", "inspect", "cityscapes_ood")
    card = json.loads((mock_bundle / "card.json").read_text())
    assert card["default_prompt_set"] == "traffic"  # Looking changes nothing.
