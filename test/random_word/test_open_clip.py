"""The method on a real, tiny open_clip model with weights files of its own; nothing is replaced."""

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
from run_cli import Cli

from vl4ad_ros.cli.main import main
from vl4ad_ros.runtime.random_word_network import load_network

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
    """Weights of two models of one name, a network trained for each with one cache, and one product."""
    root = tmp_path_factory.mktemp("open_clip")
    patch = pytest.MonkeyPatch()
    for name in ("_MODEL_CONFIGS", "_MODEL_CONFIG_PATHS"):
        patch.setattr(factory, name, getattr(factory, name).copy())
    (root / f"{MODEL}.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(root / f"{MODEL}.json")
    settings = {"family": "products", "text_encoder": ENCODER, "samples": 40, "validation_samples": 10, "epochs": 2}
    (root / "settings.json").write_text(json.dumps(settings))
    for seed in (1, 2):
        torch.manual_seed(seed)
        torch.save(open_clip.create_model(MODEL, pretrained=None).state_dict(), root / f"{seed}.pt")
        command = ["random-word", "train", str(root / "settings.json"), "--weights", str(root / f"{seed}.pt")]
        assert main([*command, "--cache", str(root / "cache"), "--output", str(root / f"{seed}.safetensors")]) == 0
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 10:20] = 255
    for folder in ("train/good", "test/good", "test/hole"):
        for number in range(2):
            picture(root / "nut" / folder / f"{number}.png", RNG.integers(0, 256, (40, 40, 3)))
            picture(root / f"nut/ground_truth/hole/{number}_mask.png", mask)
    yield root
    patch.undo()


def picture(path: Path, pixels: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def evaluate(work: Path, network: str, *arguments: str, weights: int = 1) -> dict[str, Any]:
    command = ["evaluate", "dataset", "mvtec", str(work / "nut"), "--bundle", ENCODER, "--method", "random_word"]
    command += ["--random-word", network, "--weights", str(work / f"{weights}.pt"), "--out", str(work / "out")]
    assert main([*command, "--windows", "2", *arguments]) == 0
    return dict(json.loads((work / "out/result.json").read_text()))


def test_each_weights_file_has_embeddings_of_its_own(work: Path) -> None:
    one, two = (load_network(work / f"{seed}.safetensors") for seed in (1, 2))
    assert one.encoder_id == two.encoder_id == ENCODER
    assert one.dim == CONFIG["embed_dim"]
    assert np.abs(one.text_means - two.text_means).max() > 0.01


def test_an_evaluation_of_products(work: Path) -> None:
    own = [str(work / f"{seed}.safetensors") for seed in (1, 2)]
    open_gap = evaluate(work, own[0])
    closed = evaluate(work, own[0], "--images", str(work / "nut/train"), "--most-images", "2")
    others = evaluate(work, own[1], weights=2)
    guided = evaluate(work, "products")
    maps = set()
    for result in (open_gap, closed, others, guided):
        assert result["frames"] == {"evaluated": 4, "labelled": 4, "with_anomalies": 2}
        figures = [*result["image"].values(), result["pixel"]["auroc"], result["pro"]]
        assert all(0 <= figure <= 1 for figure in figures)
        assert result["detector"]["bundle"] == ENCODER
        maps.add(result["pixel"]["auroc"])
    assert len(maps) == 4
    assert (open_gap["detector"]["gap"], closed["detector"]["gap"]["images"]) == ({"kind": "none"}, 2)
    assert open_gap["detector"]["random_word"]["name"] == "1"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--bundle", ENCODER], "--method random_word"),
        (["--bundle", ENCODER, "--method", "random_word"], "--random-word NETWORK"),
        (["--bundle", ENCODER, "--method", "random_word", "--random-word", "none.safetensors"], "cannot be read"),
        (["--bundle", ENCODER, "--method", "random_word", "--random-word", "prodcts"], "prompt family"),
        (["--images", "x"], "--images"),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], sentence: str, work: Path, cli: Cli) -> None:
    command = ["evaluate", "dataset", "mvtec", str(work / "nut"), "--out", str(work / "bad"), *arguments]
    assert sentence in cli.error(*command)
