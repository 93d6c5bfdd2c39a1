"""CLIP windows on randomly initialised open_clip towers, compared with the towers' own forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer

from vl4ad_ros.evaluation.frames import Frame
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.random_word.clip_windows import ClipWindowPredictor
from vl4ad_ros.random_word.windows import harmonic_map, harmonic_mean, window_index, wrap_tower
from vl4ad_ros.runtime.random_word_network import RandomWordNetwork, untrained_network

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


def network() -> RandomWordNetwork:
    made = untrained_network(DIM, ID)
    return made.with_shift(made.shift * 0, {})


def pictures(count: int) -> list[np.ndarray]:
    return [np.random.default_rng(seed).integers(0, 256, (60, 40, 3)).astype(np.uint8) for seed in range(count)]


def unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=-1).detach()


def test_harmonic_aggregation_on_paper() -> None:
    index = torch.tensor([[0, 1], [1, 2]])
    # The middle patch lies in both windows: 2 / (1/0.5 + 1/0.25).
    np.testing.assert_allclose(harmonic_map(torch.tensor([0.5, 0.25]), index, 3), [0.5, 1 / 3, 0.25])
    merged = harmonic_mean([torch.tensor([0.5]), torch.tensor([0.25]), torch.tensor([1.0])])
    np.testing.assert_allclose(merged, [3 / 7])


@pytest.mark.parametrize("kind", ["transformer", "convnext"])
def test_the_window_of_the_whole_image_is_the_towers_own_embedding(kind: str, request: pytest.FixtureRequest) -> None:
    visual = request.getfixturevalue(kind)
    tower = wrap_tower(visual)
    image = tower.prepare(pictures(1)[0])
    (whole,) = tower.embed(image, [window_index(tower.grid, max(tower.grid))])
    np.testing.assert_allclose(whole, unit(visual(image[None])), atol=1e-5)


def test_a_window_of_a_transformer_sees_its_own_tokens_alone(transformer: Any) -> None:
    tower = wrap_tower(transformer)
    index = window_index(tower.grid, 2)
    image = torch.randn(3, 40, 40)
    (rows,) = tower.embed(image, [index])
    assert rows.shape == (16, DIM)
    tokens = transformer._embeds(image[None])
    for number in (0, 7, 15):
        chosen = torch.cat([torch.tensor([0]), index[number] + 1])
        pooled, _ = transformer._pool(transformer.transformer(tokens[:, chosen]))
        np.testing.assert_allclose(rows[number], unit(pooled @ transformer.proj)[0], atol=1e-5)
    # Pixels outside of a window's patches change nothing in it.
    image[:, 16:] += 1
    (again,) = tower.embed(image, [index])
    np.testing.assert_allclose(again[:4], rows[:4], atol=1e-5)
    assert (again[-1] - rows[-1]).abs().max() > 1e-3


def test_windows_of_a_convnext_are_its_head_on_the_crop(convnext: Any) -> None:
    tower = wrap_tower(convnext)
    assert tower.grid == (3, 3)
    image = torch.randn(3, 96, 96)
    (rows,) = tower.embed(image, [window_index(tower.grid, 2)])
    features = convnext.trunk.forward_features(image[None])
    crop = convnext.head(convnext.trunk.forward_head(features[:, :, 1:, :2]))
    np.testing.assert_allclose(rows[2], unit(crop)[0], atol=1e-5)
    assert (rows[0] - rows[3]).abs().max() > 1e-3


def test_scores_and_maps_follow_the_definition(transformer: Any) -> None:
    predictor = ClipWindowPredictor(wrap_tower(transformer), ID, network(), (2,))
    index = window_index((5, 5), 2).numpy()
    for number, image in enumerate(pictures(2)):
        found = predictor.predict(Frame(number, "x", image, None))
        p_whole, p_small = (network().probability(part) for part in predictor.embed(image))
        assert found.image_score == pytest.approx(p_whole[0])
        assert found.uncertainty.shape == image.shape[:2]
        patch = np.array([1 / (1 / p_small[(index == k).any(axis=1)]).mean() for k in range(25)])
        expected = 2 / (1 / patch + 1 / p_whole[0])
        # The corners of the enlarged map are those of the patches.
        corners = found.uncertainty[[0, 0, -1, -1], [0, -1, 0, -1]]
        np.testing.assert_allclose(corners, expected[[0, 4, 20, 24]], atol=1e-5)


def test_closing_the_gap_moves_the_images_mean_onto_the_normal_prompts(transformer: Any) -> None:
    predictor = ClipWindowPredictor(wrap_tower(transformer), ID, network(), (2,))
    before = predictor.predict(Frame(0, "x", pictures(1)[0], None)).image_score
    predictor.close_gap(pictures(3), "normal")
    rows = np.concatenate([part for image in pictures(3) for part in predictor.embed(image)])
    moved = rows.mean(axis=0) + predictor.network.shift
    np.testing.assert_allclose(moved, network().text_means[0], atol=1e-4)
    assert predictor.describe()["gap"]["reference"] == "normal"
    assert predictor.predict(Frame(0, "x", pictures(1)[0], None)).image_score != before


def test_what_does_not_fit_is_refused(transformer: Any) -> None:
    with pytest.raises(Vl4adError, match=r"open_clip:test/random.*open_clip:other/x"):
        ClipWindowPredictor(wrap_tower(transformer), "open_clip:other/x", network(), (2,))
    with pytest.raises(Vl4adError, match="at least 1 patch"):
        ClipWindowPredictor(wrap_tower(transformer), ID, network(), (0,))
    with pytest.raises(Vl4adError, match="Linear"):
        wrap_tower(torch.nn.Linear(2, 2).requires_grad_(False))
