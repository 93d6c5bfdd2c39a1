"""The method inside a graph: against NumPy, through torch.export, ONNX Runtime, a bundle and the detector."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mask_bundle import mask_network
from mock_bundle import LIMITS, ColourEncoder, compiled_set

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.score_graph import blend, probability
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.prompt_tensors import PromptTensors, pack
from vl4ad_ros.runtime.random_word_files import graph_inputs, install, load_bundled
from vl4ad_ros.runtime.random_word_network import RandomWordNetwork
from vl4ad_ros.runtime.scores import SCORINGS, to_uncertainty

TRAFFIC = compiled_set()


def make_network(dim: int = 3, hidden: int = 5, seed: int = 0, encoder_id: str = ColourEncoder.id) -> RandomWordNetwork:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    return RandomWordNetwork(
        draw(dim, hidden),
        draw(hidden),
        draw(hidden) * np.float32(3),
        draw(1),
        draw(dim) / np.float32(2),
        draw(2, dim),
        encoder_id,
    )


def tensors(scoring: str, method: str, network: RandomWordNetwork | None = None) -> PromptTensors:
    inputs = (network or make_network()).graph_inputs()
    return pack(TRAFFIC, LIMITS, 1.0, scoring, temperature=0.5, method=method, random_word=inputs)


def unit_rows(*shape: int, seed: int = 1) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


@pytest.mark.parametrize("scoring", SCORINGS)
def test_dense_graph_publishes_the_networks_probability(scoring: str) -> None:
    network, v = make_network(), unit_rows(2, 4, 6, 3)
    packed = tensors(scoring, "random_word")
    rows, head = (torch.from_numpy(np.array(a)) for a in network.graph_inputs().values())
    raw = torch.randn(2, 4, 6)
    u = blend(raw, probability(torch.from_numpy(v) @ rows.T, head), torch.from_numpy(np.array(packed.settings)))
    p = network.probability(v)
    assert p.std() > 0.02
    np.testing.assert_allclose(to_uncertainty(u.numpy(), scoring, 0.5), p, atol=2e-6)
    if scoring == "vl4ad":
        np.testing.assert_allclose(u.numpy(), p - 1, atol=2e-6)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_both_is_the_mean_of_the_published_maps_and_vl4ad_passes_untouched(scoring: str) -> None:
    raw, p = torch.randn(1, 5, 7) - 0.5, torch.rand(1, 5, 7)
    published = to_uncertainty(raw.numpy(), scoring, 0.5)
    settings = torch.from_numpy(np.array(tensors(scoring, "both").settings))
    mixed = to_uncertainty(blend(raw, p, settings).numpy(), scoring, 0.5)
    np.testing.assert_allclose(mixed, (published + p.numpy()) / 2, atol=2e-6)
    settings[-2:] = torch.tensor([3.0, 1.0])
    mixed = to_uncertainty(blend(raw, p, settings).numpy(), scoring, 0.5)
    np.testing.assert_allclose(mixed, 0.75 * published + 0.25 * p.numpy(), atol=2e-6)
    alone = torch.from_numpy(np.array(tensors(scoring, "vl4ad").settings))
    np.testing.assert_array_equal(blend(raw, p, alone).numpy(), raw.numpy())


@torch.inference_mode()
def test_the_mask_network_scores_its_queries() -> None:
    module = mask_network()
    network, packed = make_network(), tensors("vl4ad", "both")
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3)).astype(np.uint8))
    inputs = [torch.from_numpy(np.array(array)) for array in packed.graph_inputs().values()]
    found = module(image, *inputs)
    prediction = module.head(module.features(image))[-1]
    s = prediction.mask_logits.sigmoid().numpy()
    p = network.probability(prediction.embeddings.numpy())
    small = torch.from_numpy(np.einsum("bnhw,bn->bhw", s, p) / s.sum(axis=1))
    # The second method is made at the masks' resolution, and its map resized.
    mean = torch.nn.functional.interpolate(small[:, None], scale_factor=4.0, mode="bilinear")[:, 0].numpy()
    vl4ad = to_uncertainty(module(image, *inputs[:4]).numpy(), "vl4ad", 0.5)
    np.testing.assert_allclose(1 + found.numpy(), (vl4ad + mean) / 2, atol=1e-5)


def test_low_rank_rows_are_exact() -> None:
    rng = np.random.default_rng(3)
    w, e = rng.standard_normal((8, 4)).astype(np.float32), rng.standard_normal((6, 4)).astype(np.float32)
    network = make_network(dim=8, encoder_id="toy")
    wide = e @ w.T
    v = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    rows = network.graph_inputs()["random_word_rows"]
    dots = (e @ (rows @ w).T) / np.sqrt(((e @ (w.T @ w)) * e).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(dots, v @ rows.T, atol=1e-4)


def test_installed_network_runs_through_the_detector(both_bundle: Path) -> None:
    network = make_network(seed=4)
    install(ModelBundle.load(both_bundle), network)
    detector = Detector.open(both_bundle, threads=1)
    try:
        image = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
        colours = image[::4, ::4].astype(np.float32) + 1e-6
        p = network.probability(colours / np.linalg.norm(colours, axis=2, keepdims=True))
        maps = {
            method: detector.detect(image, detector.prompts(method=method), "mask")
            for method in ("vl4ad", "random_word", "both")
        }
        np.testing.assert_allclose(maps["random_word"], p, atol=1e-5)
        np.testing.assert_allclose(maps["both"], (maps["vl4ad"] + p) / 2, atol=1e-5)
        assert np.abs(maps["vl4ad"] - p).max() > 0.1
        np.testing.assert_array_equal(load_bundled(detector.bundle).w1, network.w1)
    finally:
        detector.close()


def test_damaged_or_foreign_networks_are_refused(both_bundle: Path) -> None:
    install(ModelBundle.load(both_bundle), make_network())
    path = both_bundle / "random_word" / "default.safetensors"
    kept = path.read_bytes()
    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(Vl4adError, match=r"random_word/default\.safetensors does not match"):
        ModelBundle.load(both_bundle)
    path.write_bytes(kept)
    bundle = ModelBundle.load(both_bundle)
    with pytest.raises(Vl4adError, match=r"'minilm' \(dimension 3\), but bundle 'colours' needs 'mock:rgb'"):
        install(bundle, replace(make_network(), encoder_id="minilm"))
    with pytest.raises(Vl4adError, match="dimension 4"):
        graph_inputs(bundle, "both", make_network(dim=4))


def test_bundle_whose_graph_lacks_the_method(mock_bundle: Path) -> None:
    bundle = ModelBundle.load(mock_bundle)
    assert graph_inputs(bundle) == {}
    with pytest.raises(Vl4adError, match="no random-word inputs"):
        install(bundle, make_network())
    detector = Detector.open(mock_bundle, threads=1)
    with pytest.raises(Vl4adError, match="has no method 'random_word'"):
        detector.prompts(method="random_word")
    detector.close()
