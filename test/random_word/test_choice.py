"""Several random-word networks in one bundle: which one runs, and what every result says of it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from run_cli import Cli

from vl4ad_ros.cli.main import main
from vl4ad_ros.evaluation.predictor import DetectorSpec
from vl4ad_ros.io.files import sha256_file
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.random_word_files import install
from vl4ad_ros.runtime.random_word_network import RandomWordNetwork, load_network, untrained_network

RED = np.zeros((64, 96, 3), np.uint8)
RED[..., 0] = 255


@pytest.fixture
def bundle(both_bundle: Path, tmp_path: Path) -> ModelBundle:
    """Networks `default` and `tunnels` in the bundle, and a third one in a file."""
    for seed, name in enumerate(("default", "tunnels")):
        made = install(ModelBundle.load(both_bundle), untrained_network(3, "mock:rgb", seed), name)
    untrained_network(3, "mock:rgb", 2).save(tmp_path / "mine.safetensors")
    return made


def p_red(network: RandomWordNetwork) -> float:
    return float(network.probability(np.array([1, 0, 0], np.float32)))


def identity(path: Path) -> dict[str, str]:
    return {"name": path.stem, "version": load_network(path).version, "sha256": sha256_file(path)}


def test_detect_runs_the_network_that_is_named_and_says_which(bundle: ModelBundle, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "red.png"), RED[..., ::-1])
    command = ["detect", str(tmp_path / "red.png"), "--bundle", str(bundle.path), "--out", str(tmp_path / "out")]
    files = {
        None: bundle.path / "random_word/default.safetensors",
        "tunnels": bundle.path / "random_word/tunnels.safetensors",
        str(tmp_path / "mine.safetensors"): tmp_path / "mine.safetensors",
    }
    for given, path in files.items():
        extra = [] if given is None else ["--random-word", given]
        assert main([*command, "--method", "random_word", *extra]) == 0
        np.testing.assert_allclose(np.load(tmp_path / "out/red.uncertainty.npy"), p_red(load_network(path)), atol=1e-4)
        result = json.loads((tmp_path / "out/result.json").read_text())
        assert result["method"] == "random_word"
        assert result["random_word"] == identity(path)
    assert len({p_red(load_network(path)) for path in files.values()}) == 3
    assert len({load_network(path).version for path in files.values()}) == 3
    predictor = DetectorSpec(str(bundle.path), method="random_word", random_word="tunnels", threads=1).open()
    assert predictor.describe()["random_word"] == identity(bundle.path / "random_word/tunnels.safetensors")
    predictor.close()
    assert main(command) == 0
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert (result["method"], result["random_word"]) == ("vl4ad", None)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--method", "both", "--random-word", "tunnel"], "expected one of ['default', 'tunnels'], got 'tunnel'"),
        (["--method", "both", "--random-word", "../x"], "expected one of ['default', 'tunnels'], got '../x'"),
        (["--method", "both", "--random-word", "x.safetensors"], "x.safetensors: cannot be read"),
        (["--random-word", "tunnels"], "of no use to --method vl4ad"),
    ],
)
def test_mistakes_are_one_sentence_for_detect_and_evaluate(
    arguments: list[str], sentence: str, bundle: ModelBundle, tmp_path: Path, cli: Cli
) -> None:
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        cv2.imwrite(str(tmp_path / kind / "0.png"), RED if kind == "images" else RED[..., 1])
    for command in (["detect", str(tmp_path / "images")], ["evaluate", "dataset", "road_anomaly", str(tmp_path)]):
        assert sentence in cli.error(*command, "--bundle", bundle.path, "--out", tmp_path / "out", *arguments)
