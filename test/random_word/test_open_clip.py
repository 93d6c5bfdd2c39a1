"""`vl4ad random-word` on a real, tiny open_clip model with weights files of its own; nothing is replaced."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import open_clip
import pytest
import torch
from open_clip import factory

from vl4ad_ros.cli.main import main

MODEL = "vl4ad-test-tiny"
ENCODER = f"open_clip:{MODEL}/mine"
CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Weights of two models of one name, settings, products and one road data set."""
    root = tmp_path_factory.mktemp("open_clip")
    patch = pytest.MonkeyPatch()
    for name in ("_MODEL_CONFIGS", "_MODEL_CONFIG_PATHS"):
        patch.setattr(factory, name, getattr(factory, name).copy())
    (root / f"{MODEL}.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(root / f"{MODEL}.json")
    for seed in (1, 2):
        torch.manual_seed(seed)
        torch.save(open_clip.create_model(MODEL, pretrained=None).state_dict(), root / f"{seed}.pt")
    settings = {"family": "products", "text_encoder": ENCODER, "samples": 40, "validation_samples": 10, "epochs": 2}
    (root / "settings.json").write_text(json.dumps(settings))
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 10:20] = 255
    for folder in ("train/good", "test/good", "test/hole"):
        for number in range(2):
            picture(root / "products/nut" / folder / f"{number}.png")
            picture(root / f"products/nut/ground_truth/hole/{number}_mask.png", mask)
    for number in range(5):
        picture(root / f"road/images/{number}.png", size=(40, 60))
        picture(root / f"road/labels/{number}.png", cv2.resize(mask // 255, (60, 40)) * (number % 2))
    yield root
    patch.undo()


def picture(path: Path, pixels: np.ndarray | None = None, size: tuple[int, int] = (40, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), RNG.integers(0, 256, (*size, 3)) if pixels is None else pixels)


@pytest.fixture(scope="module")
def networks(work: Path) -> list[Path]:
    """One network for each weights file, trained with one cache."""
    paths = [work / f"network{seed}.safetensors" for seed in (1, 2)]
    for seed, path in enumerate(paths, start=1):
        command = ["random-word", "train", str(work / "settings.json"), "--weights", str(work / f"{seed}.pt")]
        assert main([*command, "--cache", str(work / "cache"), "--output", str(path)]) == 0
    return paths


def evaluate(work: Path, data: str, *arguments: str, weights: int = 1) -> dict[str, Any]:
    command = ["random-word", "evaluate", str(work / data), "--text-encoder", ENCODER, "--windows", "2"]
    command += ["--weights", str(work / f"{weights}.pt"), "--output", str(work / "out/result.json")]
    assert main([*command, *arguments]) == 0
    text = (work / "out/result.json").read_text()
    assert "NaN" not in text
    return dict(json.loads(text))


def test_each_weights_file_has_embeddings_of_its_own(networks: list[Path], work: Path) -> None:
    from vl4ad_ros.runtime.random_word_network import load_network

    one, two = (load_network(path) for path in networks)
    assert one.encoder_id == two.encoder_id == ENCODER
    assert one.dim == CONFIG["embed_dim"]
    assert np.abs(one.text_means - two.text_means).max() > 0.01
    assert len(list((work / "cache").iterdir())) == 2


def test_products(networks: list[Path], work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = evaluate(work, "products", "--network", str(networks[0]), "--side", "32", "--gap-images", "2")
    assert "prompts embedded" not in capsys.readouterr().err
    guided = evaluate(work, "products", "--method", "prompt_guided", "--side", "32")
    assert "prompts embedded" in capsys.readouterr().err
    for result, kind in ((trained, "settings"), (guided, "temperature")):
        assert kind in result["card"]
        assert result["categories"]["nut"]["images"] == 4
        assert all(0 <= value <= 1 for value in result["mean"].values())
    assert trained["mean"] != guided["mean"]
    other = evaluate(work, "products", "--network", str(networks[1]), "--side", "32", "--gap-images", "2", weights=2)
    assert other["mean"] != trained["mean"]


def test_roads(networks: list[Path], work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    road = ("--layout", "road_anomaly")
    open_gap = evaluate(work, "road", *road, "--network", str(networks[0]), "--gap", "none")
    said = capsys.readouterr()
    assert "5 of 5 frames" in said.err
    assert "road_anomaly: ap 0." in said.out
    closed = evaluate(
        work, "road", *road, "--network", str(networks[0]), "--images", str(work / "products"), "--gap-images", "3"
    )
    guided = evaluate(work, "road", *road, "--method", "prompt_guided")
    for result in (open_gap, closed, guided):
        assert result["data"]["frames"] == 5
        pixel = result["pixel"]
        assert pixel["positives"] + pixel["negatives"] == 5 * 40 * 60
        assert all(0 < pixel[figure] < 1 for figure in ("ap", "fpr95", "auroc"))
        assert result["frames"] == 5
        assert result["problems"] == []
    assert (open_gap["gap"], closed["gap"]["images"]) == ({"kind": "none"}, 3)
    assert open_gap["pixel"] != closed["pixel"] != guided["pixel"]
    # The baseline's texts are about roads there.
    products = evaluate(work, "road", *road, "--method", "prompt_guided", "--family", "products")
    assert products["pixel"] != guided["pixel"]
