"""Measuring the mean visual embedding through nothing but scores, and the shift that follows from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mock_bundle import STRIDE, write_mock_bundle
from numpy.typing import NDArray

from vl4ad_ros.network.score_graph import class_weights, score_of_masks
from vl4ad_ros.random_word.gap import close_gap, directions, mean_visual_embedding
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.engine import EngineInfo
from vl4ad_ros.runtime.prompt_tensors import PromptTensors
from vl4ad_ros.runtime.random_word_network import RandomWordNetwork


def network(dim: int = 3, hidden: int = 4) -> RandomWordNetwork:
    rng = np.random.default_rng(0)
    return RandomWordNetwork(
        w1=rng.standard_normal((dim, hidden)).astype(np.float32),
        b1=np.zeros(hidden, np.float32),
        w2=np.ones(hidden, np.float32),
        b2=np.zeros(1, np.float32),
        shift=np.zeros(dim, np.float32),
        text_means=rng.standard_normal((2, dim)).astype(np.float32),
        encoder_id="mock:rgb",
    )


class MaskEngine:
    """A mask model of fixed masks and embeddings, with a void column."""

    info = EngineInfo("fake", "cpu", "none", "none", "none", "float32")

    def __init__(self, queries: int = 5) -> None:
        rng = np.random.default_rng(1)
        v = rng.standard_normal((queries, 3))
        self.v = (v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32)
        self.logits = rng.standard_normal((1, queries, 4, 6)).astype(np.float32)

    def infer(self, images: NDArray[np.uint8], prompts: PromptTensors) -> NDArray[np.float32]:
        concepts, mask, settings = (
            torch.from_numpy(np.array(a)) for a in (prompts.class_concepts, prompts.class_mask, prompts.settings)
        )
        cosines = torch.from_numpy(self.v @ prompts.text_embeddings.T)[None]
        void = torch.from_numpy(self.v[:, 0])[None]
        weights = class_weights(cosines, concepts, mask, settings, void)
        return score_of_masks(torch.from_numpy(self.logits), weights, mask, settings).numpy()

    def close(self) -> None:
        """Nothing to free."""


def test_the_mean_of_a_dense_bundle(mock_bundle: Path) -> None:
    detector = Detector.open(mock_bundle, threads=1)
    images = [np.random.default_rng(seed).integers(0, 256, (64, 96, 3)).astype(np.uint8) for seed in (0, 1)]
    basis = directions(network())
    assert basis.shape == (3, 3)
    done: list[tuple[int, int]] = []
    mean = mean_visual_embedding(detector, images, basis, lambda *progress: done.append(progress))
    colours = np.concatenate([image[::STRIDE, ::STRIDE].reshape(-1, 3) for image in images]) + 1e-6
    expected = (colours / np.linalg.norm(colours, axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(mean, expected, atol=1e-4)
    assert done[-1] == (8, 8)
    detector.close()


def test_the_mean_of_a_mask_model_with_void_is_weighted_by_its_masks(tmp_path: Path) -> None:
    loaded = ModelBundle.load(write_mock_bundle(tmp_path / "mock"))
    bundle = replace(loaded, card=loaded.card.model_copy(update={"void": True}))
    engine = MaskEngine()
    basis = np.eye(3, dtype=np.float32)
    mean = mean_visual_embedding(Detector(bundle, engine), [np.zeros((16, 24, 3), np.uint8)], basis)
    masks = 1 / (1 + np.exp(-engine.logits[0]))
    weights = masks.sum(axis=(1, 2))
    np.testing.assert_allclose(mean, (weights @ engine.v) / weights.sum(), atol=1e-4)


@pytest.mark.parametrize("reference", ["normal", "all"])
def test_the_shift_brings_the_mean_onto_the_texts_and_touches_nothing_else(reference: str) -> None:
    plain = network(dim=8, hidden=2)
    basis = directions(plain)
    assert basis.shape == (2, 8)
    np.testing.assert_allclose(basis @ basis.T, np.eye(2), atol=1e-6)
    visual = np.random.default_rng(2).standard_normal(8).astype(np.float32)
    shifted = close_gap(plain, visual, "normal" if reference == "normal" else "all", {"images": 3})
    target = plain.text_means[0] if reference == "normal" else plain.text_means.mean(axis=0)
    np.testing.assert_allclose(basis @ (visual + shifted.shift), basis @ target, atol=1e-5)
    outside = np.eye(8) - basis.T @ basis
    np.testing.assert_allclose(outside @ shifted.shift, 0, atol=1e-5)
    gap = shifted.card["gap"]
    assert gap["kind"] == "shift"
    assert gap["reference"] == reference
    assert gap["images"] == 3
    assert gap["length"] == pytest.approx(float(np.linalg.norm(shifted.shift)), rel=1e-5)
    np.testing.assert_array_equal(plain.shift, 0)
