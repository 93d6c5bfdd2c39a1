"""The comparison on a bundle whose answer is known: colours as visual embeddings, colour words as texts."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mock_bundle import ColourEncoder
from numpy.typing import NDArray
from run_cli import Cli

from vl4ad_ros.prompts import encoders
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.random_word_files import load_bundled


class Reader(ColourEncoder):
    """Reads a sentence as the sum of its colours; other words count as a little grey."""

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        colours = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "violet": (0.4, 0, 1)}
        rows = np.array(
            [np.sum([colours.get(word, (0.02, 0.02, 0.02)) for word in text.split()], axis=0) for text in texts]
        )
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(encoders, "create_encoder", lambda encoder_id, weights=None: Reader())
    family = {
        "name": "colours",
        "templates": ["{}", "a {} there"],
        "normal": ["red {}", "green {}", "red and green {}", "green with red {}"],
        "anomalous": ["blue {}", "violet {}", "blue on top {}", "all violet {}"],
    }
    (tmp_path / "family.json").write_text(json.dumps(family))
    plain = {"family": str(tmp_path / "family.json"), "samples": 100, "validation_samples": 20, "epochs": 15}
    plain |= {"rate": 2e-2, "batch": 32, "hidden": 8}
    (tmp_path / "settings.json").write_text(json.dumps(plain))
    return tmp_path / "settings.json"


@pytest.fixture
def road(tmp_path: Path) -> Path:
    """Three RoadAnomaly-like frames: red and green with a blue square; the middle one's square is labelled wrongly."""
    for name in ("images", "labels"):
        (tmp_path / "road" / name).mkdir(parents=True)
    for number in range(3):
        image = np.zeros((64, 96, 3), np.uint8)
        image[:, :48, 0] = 255
        image[:, 48:, 1] = 255
        image[16:32, 16:32] = (0, 0, 255)
        label = np.zeros((64, 96), np.uint8)
        label[16:32, 16:32] = 1
        if number == 1:
            label = 1 - label
        cv2.imwrite(str(tmp_path / f"road/images/{number}.png"), image[..., ::-1])
        cv2.imwrite(str(tmp_path / f"road/labels/{number}.png"), label)
    return tmp_path / "road"


def test_the_table_and_its_record(
    both_bundle: Path,
    settings: Path,
    road: Path,
    tmp_path: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a scene to choose the network on: a red and green road with a violet thing."""
    scene = np.zeros((64, 96, 3), np.uint8)
    scene[:, :48, 0] = scene[:, 48:, 1] = 255
    scene[16:32, 16:32] = (100, 0, 255)
    truth = np.zeros((64, 96), np.uint8)
    truth[16:32, 16:32] = 1
    monkeypatch.setattr("vl4ad_ros.random_word.thresholds.scenes_of_run", lambda config, root: [(scene, truth)])
    bundle = ModelBundle.load(both_bundle)
    command = ["random-word", "compare", str(settings), "--bundle", str(bundle.path), "--data", f"road_anomaly={road}"]
    command += ["--seeds", "2", "--images", str(road / "images"), "--threads", "1", "--output", str(tmp_path / "out")]
    # Every second frame of three: the two whose labels are right.
    said = cli(*command, "--stride", "2", "--scenes", "run.yaml", "--install")
    record = json.loads((tmp_path / "out/compare.json").read_text())
    rows = {row["name"]: row for row in record["rows"]}
    assert list(rows) == [
        "VL4AD",
        "prompt-guided cosines, no training",
        "no random words",
        "no random words, gap closed",
        "random words (the paper's placement)",
        "random words (the paper's placement), gap closed",
        "random words in anomalous prompts only (ours)",
        "random words in anomalous prompts only (ours), gap closed",
        "both: VL4AD + random words (the paper's placement)",
    ]
    for name, row in rows.items():
        figures = row["results"]["road_anomaly"]["ap"]
        assert len(figures["values"]) == row["runs"]
        assert figures["mean"] == pytest.approx(np.mean(figures["values"]))
        if "anomalous prompts only" not in name or name.startswith("both"):
            assert figures["mean"] > 0.9, name
    both = rows["random words (the paper's placement)"]["results"]["road_anomaly"]["auroc"]
    assert both["spread"] == pytest.approx(np.std(both["values"], ddof=1))
    assert record["bundle"]["onnx_sha256"] == bundle.onnx_sha256
    assert record["engine"]["backend"] == "onnxruntime"
    places = {name: row["results"]["validation scenes"]["ap"]["mean"] for name, row in rows.items()}
    card = load_bundled(ModelBundle.load(both_bundle)).card
    chosen = "no random words" if not card["settings"]["words"]["max_words"] else card["settings"]["words"]["labels"]
    names = {"both": "random words (the paper's placement)", "no random words": "no random words"}
    name = names.get(chosen, "random words in anomalous prompts only (ours)")
    found = places[name + ", gap closed" * (card["gap"]["kind"] == "shift")]
    trained = [name for name in places if "random words" in name and not name.startswith("both")]
    assert found == max(places[name] for name in trained)
    table = (tmp_path / "out/compare.md").read_text()
    assert table in said
    lines = table.splitlines()
    assert len(lines) == 2 + 9
    assert lines[2].startswith("| VL4AD | ")
    assert " ± " not in lines[3]
    assert " ± " in lines[5]


def test_mistakes(settings: Path, road: Path, tmp_path: Path, cli: Cli) -> None:
    common = ["random-word", "compare", str(settings), "--bundle", "x", "--output", str(tmp_path / "out"), "--data"]
    for arguments, sentence in (
        ([f"raod={road}"], "Unknown data set"),
        ([f"road_anomaly={road}", "--seeds", "0"], "--seeds"),
        ([f"road_anomaly={road}", "--install"], "--scenes"),
        ([f"road_anomaly={tmp_path}/none"], "There is no folder"),
        ([f"road_anomaly={road}"], "There is no model bundle 'x'"),
    ):
        assert sentence in cli.error(*common, *arguments)
