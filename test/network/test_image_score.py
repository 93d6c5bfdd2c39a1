"""The score at the input's size: strips against the whole, classes against masks, and both as exported bundles."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from formulas import anomaly_score
from mask_bundle import HEIGHT, WIDTH, mask_network
from mock_bundle import LIMITS, compiled_set

from vl4ad_ros.network.bundle_writer import export_network
from vl4ad_ros.network.checkpoint import load_config, save_network
from vl4ad_ros.network.image_score import score_of_resized_classes, score_of_resized_masks
from vl4ad_ros.network.score_graph import class_weights
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.scores import SCORINGS, SETTINGS_SIZE

# Rows that are no multiple of any strip's.
ROWS, COLUMNS, QUERIES, NUM_ID = 19, 9, 12, 4
# The others are made at the masks' size, and their map is resized.
OF_CLASSES = ("vl4ad", "msp", "max_logit")


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
    got = score_of_resized_masks(masks, weights_of(cosines, class_mask, settings), class_mask, settings)
    large = (4 * ROWS, 4 * COLUMNS)
    resized = F.interpolate(masks, size=large, mode="bilinear", align_corners=False).sigmoid()
    for index in range(2):
        small = scoring not in OF_CLASSES
        s = masks[index].sigmoid() if small else resized[index]
        expected = anomaly_score(s.numpy(), cosines[index].numpy(), NUM_ID, 0.2, scoring)
        if small:
            expected = np.asarray(cv2.resize(expected, large[::-1], interpolation=cv2.INTER_LINEAR), dtype=float)
        np.testing.assert_allclose(got[index].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_resized_classes_are_the_formula_on_their_log_odds(scoring: str) -> None:
    """Against all K maps in full size: equal wherever the corners' largest classes decide, never above it elsewhere."""
    masks, cosines, class_mask, settings = inputs(scoring)
    weights = weights_of(cosines, class_mask, settings)
    weights = weights / QUERIES  # no support beyond 1
    got = score_of_resized_classes(masks, weights, class_mask, settings)
    support = torch.einsum("bnk,bnhw->bkhw", weights[..., :NUM_ID], masks.sigmoid())
    large = (4 * ROWS, 4 * COLUMNS)
    if scoring not in OF_CLASSES:
        got = score_of_resized_classes(masks, QUERIES * weights, class_mask, settings)
        for index in range(2):
            small = anomaly_score(masks[index].sigmoid().numpy(), cosines[index].numpy(), NUM_ID, 0.2, scoring)
            expected = cv2.resize(small, large[::-1], interpolation=cv2.INTER_LINEAR)
            np.testing.assert_allclose(got[index].numpy(), expected, atol=1e-4)
        return
    if scoring == "msp":
        support = support + (1 - support.sum(1, keepdim=True)) / NUM_ID
    if scoring != "max_logit":
        support = torch.logit(support, eps=2.0**-20)
    full = F.interpolate(support, size=large, mode="bilinear", align_corners=False).amax(dim=1)
    full = full if scoring == "max_logit" else full.sigmoid()
    missed = got + full
    assert missed.min() > -1e-4
    assert (missed < 1e-4).float().mean() > 0.98
    assert missed.max() < 0.05 * float(full.max() - full.min())


@pytest.mark.timeout(900)  # an export
def test_bundles_with_the_score_at_the_input_s_size(mask_bundle: ModelBundle, tmp_path: Path) -> None:
    """Class maps resized, as by default, and masks."""
    save_network(mask_network(), tmp_path / "network")
    compiled_set().save(tmp_path / "set.safetensors")
    sets, out = [tmp_path / "set.safetensors"], tmp_path / "bundle"
    masks = export_network(tmp_path / "network", out, sets, HEIGHT, WIDTH, LIMITS, with_network=True, resize="masks")
    assert load_config(out / "network").resize == "masks"
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for bundle in (mask_bundle, masks):
        assert bundle.card.stride == 1
        assert bundle.card.scores["onnx_check"]["max_abs_error"] < 2e-3
        kinds = {node.op_type for node in onnx.load(str(bundle.onnx_path)).graph.node}
        assert not {kind for kind in kinds if "Sequence" in kind}, "TensorRT knows no sequences"
        detector = Detector.open(bundle.path)
        for scoring in SCORINGS:
            assert detector.detect(image, detector.prompts(scoring=scoring), "mask").shape == (HEIGHT, WIDTH)
