"""The PyTorch backends: the compiled form on a small network, and the network inside a bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mask_bundle import mask_network
from mock_bundle import LIMITS
from tiny_network import HEIGHT, WIDTH, TinyMaskNetwork

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.checkpoint import load_bundled_network, save_bundled_network
from vl4ad_ros.network.small import SmallDetector, SmallNetwork
from vl4ad_ros.network.torch_engine import TorchEngine
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.engine import create_engine
from vl4ad_ros.runtime.prompt_tensors import pack


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_equals_eager(mock_bundle: Path) -> None:
    bundle = ModelBundle.load(mock_bundle)
    prompts = pack(bundle.load_prompt_set("traffic_ood"), LIMITS, 1.0, "msp")
    images = np.random.default_rng(0).integers(0, 256, (1, HEIGHT, WIDTH, 3), dtype=np.uint8)
    eager = TorchEngine(bundle, network=TinyMaskNetwork())
    compiled = TorchEngine(bundle, compiled=True, network=TinyMaskNetwork())
    assert compiled.info.backend == "torch-compile"
    np.testing.assert_allclose(compiled.infer(images, prompts), eager.infer(images, prompts), atol=1e-4)


def test_a_bundle_without_a_network_says_how_to_get_one(mock_bundle: Path) -> None:
    with pytest.raises(Vl4adError, match=r"carries no PyTorch network .* --with-network"):
        create_engine(ModelBundle.load(mock_bundle), "torch")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_no_gpu_is_no_silent_fallback(mask_bundle: ModelBundle) -> None:
    with pytest.raises(Vl4adError, match="finds no NVIDIA GPU here"):
        create_engine(mask_bundle, "torch-cuda")


def test_the_network_travels_with_the_bundle(mask_bundle: ModelBundle) -> None:
    assert {"network/network.json", "network/network.safetensors"} <= set(mask_bundle.card.sha256)
    loaded = load_bundled_network(ModelBundle.load(mask_bundle.path)).state_dict()
    for key, value in mask_network().state_dict().items():
        assert torch.equal(loaded[key], value), key


def test_the_small_network_travels_too(mock_bundle: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = SmallDetector(SmallNetwork(text_dim=8, embed_dim=4, width=16), torch.randn(8)).eval()
    assert save_bundled_network(network, mock_bundle) == ["network/small.safetensors"]
    loaded = load_bundled_network(ModelBundle.load(mock_bundle))
    assert isinstance(loaded, SmallDetector)
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    (mock_bundle / "network" / "small.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(Vl4adError, match=r"small\.safetensors"):
        load_bundled_network(ModelBundle.load(mock_bundle))
    with pytest.raises(Vl4adError, match="cannot carry a TinyMaskNetwork"):
        save_bundled_network(TinyMaskNetwork(), tmp_path)
