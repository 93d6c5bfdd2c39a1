"""`vl4ad export` from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from mask_bundle import mask_network
from mock_bundle import compiled_set
from run_cli import Cli

from vl4ad_ros.cli.main import main
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.checkpoint import save_network
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.engine_card import load_engine_card
from vl4ad_ros.runtime.tensorrt_library import load_library


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """A network's folder and a compiled set, exported with the command."""
    folder = tmp_path_factory.mktemp("cli")
    save_network(mask_network(), folder / "network")
    compiled_set().save(folder / "traffic.safetensors")
    words = ["export", "onnx", str(folder / "network"), "--out", str(folder / "bundle"), "--size", "64x96"]
    words += ["--prompts", str(folder / "traffic.safetensors"), "--concepts", "16", "--columns", "8"]
    words += ["--concepts-per-class", "4", "--licence", "Apache-2.0"]
    assert main(words) == 0
    return ModelBundle.load(folder / "bundle")


def test_a_network_becomes_a_bundle(exported: ModelBundle) -> None:
    card = exported.card
    assert (card.input.height, card.input.width) == (64, 96)
    assert card.num_queries == 8
    assert card.void
    assert card.methods == ["vl4ad", "random_word"]
    assert card.prompt_limits.concepts == 16
    assert card.default_prompt_set == "traffic"
    assert card.temperature == pytest.approx(mask_network().temperature)
    assert card.scores["onnx_check"]["max_abs_error"] < 2e-3


def test_a_bundle_becomes_float16(exported: ModelBundle, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "half"
    assert "float16_check: max abs error" in cli(
        "export", "onnx", exported.path, "--precision", "float16", "--out", out
    )
    assert ModelBundle.load(out).card.precision == "float16"


def test_engine(exported: ModelBundle, cli: Cli) -> None:
    try:
        load_library("tensorrt_rtx")
    except Vl4adError as error:
        pytest.skip(str(error))
    words = ["export", "tensorrt", str(exported.path), "--library", "tensorrt_rtx", "--max-batch", "2"]
    assert "not checked: no GPU here" in cli(*words, "--build-only")
    assert load_engine_card(exported, "tensorrt_rtx").image.max_batch == 2
