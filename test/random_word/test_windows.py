"""CLIP windows on randomly initialised open_clip towers, held against the towers' own forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.random_word.clip_detector import ClipWindowDetector, image_tower
from vl4ad_ros.random_word.windows import harmonic_map, harmonic_mean, window_index, wrap_tower
from vl4ad_ros.runtime.random_word_network import RandomWordNetwork

DIM = 16
ID = "open_clip:test/random"


@pytest.fixture(scope="module")
def transformer() -> Any:
    torch.manual_seed(0)
    return VisionTransformer(40, 8, width=32, layers=2, heads=4, mlp_ratio=2, output_dim=DIM).eval()


@pytest.fixture(scope="module")
def convnext() -> Any:
    torch.manual_seed(0)
    visual = TimmModel("convnext_atto", embed_dim=DIM, image_size=96, pool="avg", proj="linear").eval()
    for parameter in visual.parameters():  # timm starts a ConvNeXt with scales near 0: all windows would look alike.
        parameter.data = torch.randn_like(parameter) * 0.1
    return visual


def network(seed: int = 0, scale: float = 4.0) -> RandomWordNetwork:
    rng = np.random.default_rng(seed)
    w1, w2 = rng.standard_normal((DIM, 8)).astype(np.float32), rng.standard_normal(8).astype(np.float32)
    zero = np.zeros(DIM, np.float32)
    means = rng.standard_normal((2, DIM)).astype(np.float32)
    return RandomWordNetwork(
        w1, np.zeros(8, np.float32), w2 * np.float32(scale), np.zeros(1, np.float32), zero, means, ID
    )


def test_window_index_covers_the_grid() -> None:
    assert window_index((2, 3), 2).tolist() == [[0, 1, 3, 4], [1, 2, 4, 5]]
    assert window_index((2, 3), 9).tolist() == [[0, 1, 2, 3, 4, 5]]
    assert window_index((15, 15), 2).shape == (196, 4)
    assert window_index((15, 15), 3).shape == (169, 9)


def test_harmonic_aggregation_on_paper() -> None:
    index = torch.tensor([[0, 1], [1, 2]])
    scores = torch.tensor([[0.5, 0.25]])
    # The middle patch lies in both windows: 2 / (1/0.5 + 1/0.25).
    np.testing.assert_allclose(harmonic_map(scores, index, 3), [[0.5, 1 / 3, 0.25]])
    merged = harmonic_mean([torch.tensor([0.5]), torch.tensor([0.25]), torch.tensor([1.0])])
    np.testing.assert_allclose(merged, [3 / 7])


@pytest.mark.parametrize("kind", ["transformer", "convnext"])
def test_the_window_of_the_whole_image_is_the_towers_own_embedding(kind: str, request: pytest.FixtureRequest) -> None:
    visual = request.getfixturevalue(kind)
    size = (40, 40) if kind == "transformer" else (96, 96)
    tower = wrap_tower(visual, size)
    images = torch.randn(2, 3, *size)
    with torch.inference_mode():
        whole = tower.embed(tower.shared(images), window_index(tower.grid, max(tower.grid)))
        own = torch.nn.functional.normalize(visual(images), dim=-1)
    np.testing.assert_allclose(whole[:, 0], own, atol=1e-5)


def test_a_window_of_a_transformer_sees_its_own_tokens_alone(transformer: Any) -> None:
    tower = wrap_tower(transformer, (40, 40), batch=5)
    index = window_index(tower.grid, 2)
    images = torch.randn(2, 3, 40, 40)
    with torch.inference_mode():
        shared = tower.shared(images)
        rows = tower.embed(shared, index)
        assert rows.shape == (2, 16, DIM)
        tokens = transformer._embeds(images)
        for number in (0, 7, 15):
            chosen = torch.cat([torch.tensor([0]), index[number] + 1])
            pooled, _ = transformer._pool(transformer.transformer(tokens[:, chosen]))
            alone = torch.nn.functional.normalize(pooled @ transformer.proj, dim=-1)
            np.testing.assert_allclose(rows[:, number], alone, atol=1e-5)
        # Pixels outside of a window's patches change nothing in it.
        changed = images.clone()
        changed[:, :, 16:] += 1
        again = tower.embed(tower.shared(changed), index)
    np.testing.assert_allclose(again[:, :4], rows[:, :4], atol=1e-5)
    assert (again[:, -1] - rows[:, -1]).abs().max() > 1e-3


def test_windows_of_a_convnext_are_its_head_on_the_crop(convnext: Any) -> None:
    tower = wrap_tower(convnext, (96, 96), batch=3)
    assert tower.grid == (3, 3)
    index = window_index(tower.grid, 2)
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        features = tower.shared(images)
        rows = tower.embed(features, index)
        crop = convnext.head(convnext.trunk.forward_head(features[:, :, 1:, :2]))
    np.testing.assert_allclose(rows[:, 2], torch.nn.functional.normalize(crop, dim=-1), atol=1e-5)
    assert (rows[:, 0] - rows[:, 3]).abs().max() > 1e-3


def test_other_towers_are_refused() -> None:
    with pytest.raises(Vl4adError, match="or a ConvNeXt tower, got Linear"):
        wrap_tower(torch.nn.Linear(2, 2), (8, 8))


def test_scores_and_maps_follow_the_definition(transformer: Any) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (60, 40, 3)).astype(np.uint8), rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)]
    detector = ClipWindowDetector(image_tower(ID, transformer), network(), sizes=(2,))
    whole, small = detector.embed(images)
    p_whole, p_small = (np.clip(network().probability(part.numpy()), 1e-6, 1) for part in (whole, small))
    index = window_index((5, 5), 2).numpy()
    for number, (image, found) in enumerate(zip(images, detector.detect(images), strict=True)):
        assert found.score == pytest.approx(p_whole[number, 0])
        assert found.map.shape == image.shape[:2]
        patch = np.array([1 / (1 / p_small[number][(index == k).any(axis=1)]).mean() for k in range(25)])
        expected = 2 / (1 / patch + 1 / p_whole[number, 0])
        # The corners of the enlarged map are those of the patches.
        corners = found.map[[0, 0, -1, -1], [0, -1, 0, -1]]
        np.testing.assert_allclose(corners, expected[[0, 4, 20, 24]], atol=1e-5)
    largest = ClipWindowDetector(image_tower(ID, transformer), network(), (2,), "max").detect(images)[0].score
    mean = ClipWindowDetector(image_tower(ID, transformer), network(), (2,), "mean").detect(images)[0].score
    assert mean == pytest.approx((largest + p_whole[0, 0]) / 2)


def test_closing_the_gap_moves_the_images_mean_onto_the_normal_prompts(transformer: Any) -> None:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (40, 40, 3)).astype(np.uint8) for _ in range(3)]
    detector = ClipWindowDetector(image_tower(ID, transformer), network(), sizes=(2,))
    closed = detector.with_gap_closed(images, "normal", batch=2)
    rows = np.concatenate([part.reshape(-1, DIM).numpy() for part in detector.embed(images)])
    basis = np.linalg.qr(network().w1)[0]
    moved = (rows.mean(axis=0) + closed.network.shift) @ basis
    np.testing.assert_allclose(moved, network().text_means[0] @ basis, atol=1e-5)
    # Nothing moves outside of what the network looks at.
    np.testing.assert_allclose(closed.network.shift - closed.network.shift @ basis @ basis.T, 0, atol=1e-5)
    assert closed.network.card["gap"]["reference"] == "normal"
    assert not detector.network.shift.any()
    assert closed.detect(images)[0].score != detector.detect(images)[0].score


def test_network_and_tower_must_be_of_one_model(transformer: Any) -> None:
    with pytest.raises(
        Vl4adError, match="trained with 'open_clip:test/random', the image tower is 'open_clip:other/x'"
    ):
        ClipWindowDetector(image_tower("open_clip:other/x", transformer), network())
    with pytest.raises(Vl4adError, match="at least 1 patch"):
        ClipWindowDetector(image_tower(ID, transformer), network(), sizes=(0,))


def test_preparation_uses_the_models_own_normalisation() -> None:
    visual = VisionTransformer(16, 8, width=16, layers=1, heads=2, mlp_ratio=2, output_dim=4)
    visual.preprocess_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    batch: Tensor = image_tower(ID, visual).prepare([np.full((30, 50, 3), 255, np.uint8)])
    assert batch.shape == (1, 3, 16, 16)
    np.testing.assert_allclose(batch, 2)
    assert image_tower(ID, VisionTransformer(16, 8, 16, 1, 2, 2.0, output_dim=4)).mean[0] == pytest.approx(0.48145466)
    assert open_clip.get_model_config("ViT-B-16-plus-240")["vision_cfg"]["image_size"] == 240
