"""The score at the image's resolution: strips against the whole, few queries against all, and as an exported bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from mask_bundle import HEIGHT, WIDTH, mask_network
from mock_bundle import LIMITS, ColourEncoder, mock_prompt_sets

from vl4ad_ros.detector import Detector
from vl4ad_ros.export.network import export_network
from vl4ad_ros.network.checkpoint import load_config, save_network
from vl4ad_ros.network.image_score import STRIP_ROWS, image_score
from vl4ad_ros.prompts.compile import compile_prompt_set
from vl4ad_ros.scoring import reference
from vl4ad_ros.scoring.graph import class_weights
from vl4ad_ros.scoring.names import SCORINGS, SETTINGS_SIZE

ROWS, COLUMNS, QUERIES, NUM_ID = 2 * STRIP_ROWS + 3, 9, 12, 4


def inputs(scoring: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mask logits of smooth blobs, cosines of 6 columns, class mask, settings."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(2, QUERIES, 5, 4, generator=generator)
    masks = 6 * F.interpolate(coarse, size=(ROWS, COLUMNS), mode="bilinear")
    cosines = 2 * torch.rand(2, QUERIES, 6, generator=generator) - 1
    class_mask = torch.ones(2, 6)
    class_mask[1, NUM_ID:] = 0
    settings = torch.zeros(SETTINGS_SIZE)
    settings[0] = 1 / 0.2
    settings[1 + SCORINGS.index(scoring)] = 1
    return masks, cosines, class_mask, settings


def weights_of(cosines: torch.Tensor, class_mask: torch.Tensor, settings: torch.Tensor) -> torch.Tensor:
    return class_weights(cosines, torch.arange(6, dtype=torch.int32).reshape(-1, 1), class_mask, settings)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_strips_are_the_formula_on_resized_masks(scoring: str) -> None:
    masks, cosines, class_mask, settings = inputs(scoring)
    got = image_score(masks, weights_of(cosines, class_mask, settings), class_mask, settings)
    resized = F.interpolate(masks, size=(4 * ROWS, 4 * COLUMNS), mode="bilinear", align_corners=False).sigmoid()
    for index in range(2):
        expected = reference.anomaly_score(resized[index].numpy(), cosines[index].numpy(), NUM_ID, 0.2, scoring)
        np.testing.assert_allclose(got[index].numpy(), expected, atol=2e-5)


def test_few_queries_are_off_by_no_more_than_the_bound() -> None:
    masks, cosines, class_mask, settings = inputs("vl4ad")
    weights = weights_of(cosines, class_mask, settings)
    exact = image_score(masks, weights, class_mask, settings)
    errors = []
    for queries in (2, 4, 8):
        few = image_score(masks, weights, class_mask, settings, queries)
        for start in range(0, ROWS, STRIP_ROWS):
            # The strip and one row at both ends, as far as there are any.
            rows = masks[:, :, max(start - 1, 0) : start + STRIP_ROWS + 1]
            share = weights[..., :NUM_ID].amax(-1) * rows.amax((2, 3)).sigmoid()
            bound = share.sort(dim=1).values[:, : QUERIES - queries].sum(1)
            part = slice(4 * start, 4 * (start + STRIP_ROWS))
            error = (few[:, part] - exact[:, part]).abs().amax((1, 2))
            assert (error <= bound + 1e-6).all()
            # What is left out lowers the support, and raises the score.
            assert (few[:, part] >= exact[:, part] - 1e-6).all()
        errors.append(float((few - exact).abs().max()))
    assert errors[0] > errors[2] > 0
    assert torch.equal(image_score(masks, weights, class_mask, settings, QUERIES), exact)


@pytest.mark.timeout(900)  # an export
def test_a_bundle_with_the_score_at_the_image_s_resolution(tmp_path: Path) -> None:
    network = mask_network()
    save_network(network, tmp_path / "network")
    compiled = compile_prompt_set(mock_prompt_sets()["traffic"], ColourEncoder())
    compiled.save(tmp_path / "traffic.safetensors")
    bundle = export_network(
        tmp_path / "network",
        tmp_path / "bundle",
        [tmp_path / "traffic.safetensors"],
        HEIGHT,
        WIDTH,
        LIMITS,
        with_network=True,
        score_at="image",
        score_queries=5,
    )
    assert bundle.card.stride == 1
    # Which queries are left out depends on their masks: shares that are close may swap between runtimes.
    assert bundle.card.scores["onnx_check"]["max_abs_error"] < 2e-3
    assert load_config(bundle.path / "network").score_queries == 5
    kinds = [node.op_type for node in onnx.load(str(bundle.onnx_path)).graph.node]
    assert kinds.count("TopK") == HEIGHT // 4 // STRIP_ROWS
    detector = Detector.open(bundle.path)
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for scoring in SCORINGS:
        scores = detector.infer([image], detector.prompts(scoring=scoring))
        assert scores.shape == (1, HEIGHT, WIDTH)
