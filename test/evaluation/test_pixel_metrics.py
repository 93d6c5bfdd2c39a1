"""Pixel metrics against the golden values and plain definitions, exact and from a histogram."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vl4ad_ros.evaluation.pixel_metrics import PixelMetrics, PixelResult, exact_result
from vl4ad_ros.io.errors import Vl4adError


def plain(scores: NDArray[np.float32], labels: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    """AP, AUROC, FPR95 and best F1 by their definitions, one threshold at a time."""
    positives, negatives = (labels == 1).sum(), (labels == 0).sum()
    ap = recall_before = best_f1 = 0.0
    fpr95 = float("nan")
    for threshold in sorted(set(scores[labels != 255].tolist()), reverse=True):
        above = scores >= threshold
        tp, fp = (above & (labels == 1)).sum(), (above & (labels == 0)).sum()
        ap += (tp / positives - recall_before) * tp / (tp + fp)
        recall_before = tp / positives
        best_f1 = max(best_f1, 2 * tp / (tp + fp + positives))
        if np.isnan(fpr95) and tp / positives >= 0.95:
            fpr95 = fp / negatives
    a, b = scores[labels == 1][:, None], scores[labels == 0][None]
    auroc = ((a > b).sum() + 0.5 * (a == b).sum()) / (positives * negatives)
    return float(ap), float(auroc), float(fpr95), float(best_f1)


Frames = list[tuple[NDArray[np.float32], NDArray[np.uint8]]]


def exact(frames: Frames) -> PixelResult:
    scores, labels = zip(*frames, strict=True)
    return exact_result(np.array(scores), np.array(labels))


def random_frames(seed: int, count: int, size: int = 40) -> Frames:
    rng = np.random.default_rng(seed)
    frames: Frames = []
    for _ in range(count):
        labels = rng.choice(np.array([0, 1, 255], np.uint8), size=(size, size), p=[0.8, 0.1, 0.1])
        scores = 1 / (1 + np.exp(-rng.normal(size=labels.shape) - labels % 255))
        frames.append((scores.astype(np.float32), labels))
    return frames


def collected(frames: Frames) -> PixelMetrics:
    metrics = PixelMetrics()
    for scores, labels in frames:
        metrics.add(scores, labels)
    return metrics


@settings(derandomize=True, max_examples=60)
@given(st.lists(st.tuples(st.integers(-4, 4), st.sampled_from([0, 1, 255])), min_size=2, max_size=40))
def test_many_ties_agree_with_the_definitions(pixels: list[tuple[int, int]]) -> None:
    scores = np.array([[value / 4 for value, _ in pixels]], np.float32)
    labels = np.array([[label for _, label in pixels]], np.uint8)
    if not {0, 1} <= set(labels.ravel().tolist()):
        return
    result = exact_result(scores, labels)
    got = (result.ap, result.auroc, result.fpr95, result.best_f1)
    assert got == pytest.approx(plain(scores, labels), abs=1e-12)


def test_the_best_threshold_gives_the_best_f1() -> None:
    ((scores, labels),) = random_frames(3, 1)
    result = exact_result(scores, labels)
    above = scores >= np.float32(result.best_f1_threshold)
    tp, fp = (above & (labels == 1)).sum(), (above & (labels == 0)).sum()
    assert 2 * tp / (tp + fp + result.positives) == pytest.approx(result.best_f1, abs=1e-12)


def test_levels_cost_no_more_than_the_stated_error() -> None:
    rng = np.random.default_rng(6)
    frames: Frames = []
    for _ in range(3):
        scores = np.minimum(rng.beta(0.4, 3, (300, 300)) * 1.05, 1).astype(np.float32)
        frames.append((scores, (rng.random(scores.shape) < 0.3 * scores).astype(np.uint8)))
    true, binned = exact(frames), collected(frames).result()
    assert (true.error, binned.positives, binned.negatives) == (0, true.positives, true.negatives)
    assert 0 < binned.error < 2e-5
    for name in ("ap", "auroc", "fpr95"):
        assert abs(getattr(binned, name) - getattr(true, name)) <= binned.error
    assert binned.best_f1_threshold == pytest.approx(true.best_f1_threshold, abs=1e-6)


def test_thinned_curve_keeps_both_ends() -> None:
    curve = collected(random_frames(5, 2)).curve()
    thin = curve.thin(100)
    assert len(thin.tp) <= 100
    assert (thin.tp[-1], thin.fp[-1]) == (curve.tp[-1], curve.fp[-1])
    assert thin.thresholds[0] == curve.thresholds[0]


def test_no_anomaly_gives_nan_and_no_pixel_an_empty_result() -> None:
    zeros = np.zeros((4, 4), np.uint8)
    for result in (exact_result(zeros / 2, zeros), collected([(zeros.astype(np.float32), zeros)]).result()):
        assert np.isnan(result.ap)
        assert result.negatives == 16
    assert PixelMetrics().result().positives == exact_result(zeros, zeros + 255).positives == 0


@pytest.mark.parametrize(
    ("scores", "labels", "sentence"),
    [
        (np.zeros((2, 2), np.float32), np.zeros((2, 3), np.uint8), "differ in size"),
        (np.full((2, 2), np.nan, np.float32), np.zeros((2, 2), np.uint8), "NaN"),
        (np.zeros((2, 2), np.float32), np.full((2, 2), 7, np.uint8), "found 7"),
        (np.full((2, 2), 1.5, np.float32), np.zeros((2, 2), np.uint8), r"\[0, 1\]"),
    ],
)
def test_bad_frames_are_refused(scores: NDArray[np.float32], labels: NDArray[np.uint8], sentence: str) -> None:
    with pytest.raises(Vl4adError, match=sentence):
        PixelMetrics().add(scores, labels)
