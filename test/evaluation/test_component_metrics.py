"""Component metrics against the golden counts, a plain loop, and cases counted by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from component_loop import loop_metrics
from numpy.typing import NDArray

from vl4ad_ros.evaluation.component_metrics import TRACKS, FrameComponents, Track, match_components, summarise, track
from vl4ad_ros.io.errors import Vl4adError

NO_LIMIT = Track("all", 1, 1)


def summary(frames: Iterable[FrameComponents]) -> dict[str, Any]:
    found = list(frames)
    return summarise(np.concatenate([f.siou for f in found]), np.concatenate([f.precision for f in found]))


@pytest.mark.parametrize("threshold", [0.35, 0.6])
@pytest.mark.parametrize("name", ["anomaly", "obstacle"])
def test_golden_counts_are_identical(shared_dir: Path, name: str, threshold: float) -> None:
    frames = np.load(shared_dir / "golden" / "smiyc_metrics" / "frames.npz")
    expected = json.loads((shared_dir / "golden" / "smiyc_metrics" / "expected.json").read_text())
    result = summary(
        match_components(scores.astype(np.float32) > threshold, labels, TRACKS[name])
        for scores, labels in zip(frames["scores"], frames["labels"], strict=True)
    )
    golden = expected[f"{name}_track@{threshold}"]
    for key in ("tp", "fn", "fp"):
        assert result[key] == golden[key]
    for key in ("sIoU_gt", "prec_pred", "f1_mean", "f1"):
        assert result[key] == pytest.approx(golden[key], abs=1e-12)


def blobs(rng: np.random.Generator, shape: tuple[int, int], count: int) -> NDArray[np.bool_]:
    image = np.zeros(shape, bool)
    for _ in range(count):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        height, width = rng.integers(1, 12, 2)
        image[y : y + height, x : x + width] = True
    return image


@pytest.mark.parametrize("seed", range(24))
def test_agrees_with_a_loop_over_components(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = blobs(rng, (60, 80), 12).astype(np.uint8)
    labels[blobs(rng, (60, 80), 5)] = 255
    mask = blobs(rng, (60, 80), 14)
    sizes = Track("test", int(rng.integers(1, 40)), int(rng.integers(1, 40)))
    fast = match_components(mask, labels, sizes)
    siou, precision = loop_metrics(mask, labels, sizes)
    assert sorted(fast.siou) == pytest.approx(sorted(siou), abs=1e-12)
    assert sorted(fast.precision) == pytest.approx(sorted(precision), abs=1e-12)


def test_hand_counted_case() -> None:
    labels = np.zeros((10, 20), np.uint8)
    labels[2:6, 2:6] = 1  # 16 px
    labels[2:6, 10:14] = 1  # 16 px
    mask = np.zeros((10, 20), np.uint8)
    mask[2:6, 4:12] = 255  # one segment of 32 px over half of each object
    frame = match_components(mask, labels, NO_LIMIT)
    # Object 1: 8 shared; union 16 + 32 - 8 = 40, less the 8 on object 2.
    assert frame.siou.tolist() == [8 / 32, 8 / 32]
    assert frame.recall.tolist() == [0.5, 0.5]
    assert frame.precision.tolist() == [0.5]
    assert frame.box.tolist() == [[2, 2, 6, 6], [10, 2, 14, 6]]
    result = summary([frame])
    assert (result["tp"], result["fn"]) == ([2] + [0] * 10, [0] + [2] * 10)
    assert result["fp"] == [0] * 6 + [1] * 5


def test_an_object_too_small_becomes_void() -> None:
    labels = np.zeros((10, 10), np.uint8)
    labels[0:2, 0:2] = 1
    mask = labels.astype(bool)
    mask[0:2, 2:4] = True
    frame = match_components(mask, labels, Track("test", 1, 5))
    assert frame.siou.size == 0
    assert (frame.precision.tolist(), frame.predicted_size.tolist()) == ([0.0], [4])


def test_empty_frames_summarise_to_nan() -> None:
    empty = match_components(np.zeros((5, 5), bool), np.zeros((5, 5), np.uint8), NO_LIMIT)
    result = summary([empty])
    assert np.isnan(result["sIoU_gt"]) and np.isnan(result["f1_mean"])
    assert result["tp"] == [0] * 11


def test_mistakes_are_named() -> None:
    with pytest.raises(Vl4adError, match="differ in size"):
        match_components(np.zeros((5, 5), bool), np.zeros((5, 6), np.uint8), NO_LIMIT)
    with pytest.raises(Vl4adError, match=r"\['anomaly', 'obstacle'\], got 'lane'"):
        track("lane")
