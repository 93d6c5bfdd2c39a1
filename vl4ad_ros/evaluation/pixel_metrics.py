"""Pixel metrics (AP, AUROC, FPR95, best F1): exact for arrays, from a fine histogram for any number of frames.

The histogram has 2^20 equal bins over [0, 1], the levels; `PixelResult.error` bounds what sharing a level may change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.labels import VOID

# A power of two, so that the edges of all levels are float32 numbers.
LEVELS = 1 << 20
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class PixelResult:
    """Pixel metrics of a set of frames. A metric that needs a kind of pixel that never came is NaN."""

    ap: float  # average precision: the step-wise sum over thresholds of (recall gained) x (precision), 0..1
    auroc: float  # area under the ROC curve (trapezoids, so that a tie counts one half), 0..1
    fpr95: float  # false-positive rate at the highest threshold whose true-positive rate is >= 0.95
    best_f1: float
    best_f1_threshold: float  # the threshold of `best_f1`; a pixel with `score >= threshold` is predicted anomalous
    fpr95_threshold: float
    positives: int  # pixels labelled 1
    negatives: int  # pixels labelled 0
    error: float  # upper bound of the error of ap, auroc and fpr95 through scores that share a level; 0 = exact


@dataclass(frozen=True, eq=False)
class Curve:
    """Counts at or above each threshold, from the highest threshold to the lowest."""

    thresholds: NDArray[Any]  # [T], descending; predicted anomalous means `score >= threshold`
    tp: Counts  # int64 [T], pixels labelled 1 at or above the threshold
    fp: Counts  # int64 [T], pixels labelled 0 at or above the threshold

    def thin(self, points: int) -> Curve:
        """Return about `points` thresholds, spread evenly over recall and false-positive rate, for drawing."""
        if len(self.tp) <= points:
            return self
        spread = self.tp / max(self.tp[-1], 1) + self.fp / max(self.fp[-1], 1)
        keep = np.unique(np.searchsorted(spread, np.linspace(spread[0], spread[-1], points)).clip(0, len(spread) - 1))
        return Curve(self.thresholds[keep], self.tp[keep], self.fp[keep])

    def result(self, exact: bool) -> PixelResult:
        """Return the metrics, with an error where scores share a level."""
        tp, fp, nan = self.tp, self.fp, float("nan")
        positives, negatives = (int(tp[-1]), int(fp[-1])) if len(tp) else (0, 0)
        if not positives:
            return PixelResult(nan, nan, nan, nan, nan, nan, positives, negatives, 0.0)
        gained = np.diff(tp, prepend=0)
        f1 = 2 * tp / (tp + fp + positives)
        best = int(f1.argmax())
        at95 = int((tp / positives >= 0.95).argmax())
        auroc = fpr95 = nan
        if negatives:
            auroc = float((np.diff(fp, prepend=0) * (tp - gained / 2)).sum() / positives / negatives)
            fpr95 = float(fp[at95] / negatives)
        return PixelResult(
            ap=float((gained * (tp / (tp + fp))).sum() / positives),
            auroc=auroc,
            fpr95=fpr95,
            best_f1=float(f1[best]),
            best_f1_threshold=self.thresholds[best].item(),
            fpr95_threshold=self.thresholds[at95].item(),
            positives=positives,
            negatives=negatives,
            error=0.0 if exact else _error(tp, fp, at95),
        )


def _error(tp: Counts, fp: Counts, at95: int) -> float:
    """Bound the error of ap, auroc and fpr95: within a level either kind of pixel may come first."""
    positives, negatives = max(int(tp[-1]), 1), max(int(fp[-1]), 1)
    p, n = np.diff(tp, prepend=0), np.diff(fp, prepend=0)
    before_p, before_n = tp - p, fp - n
    middle = tp / (tp + fp)
    low = (before_p + 1) / (before_p + 1 + fp)
    high = tp / np.maximum(tp + before_n, 1)
    ap = max((p * (high - middle)).sum(), (p * (middle - low)).sum()) / positives
    auroc = (p.astype(np.float64) * n).sum() / 2 / positives / negatives
    return float(max(ap, auroc, n[at95] / negatives))


def exact_result(scores: NDArray[Any], labels: NDArray[np.uint8]) -> PixelResult:
    """Return the exact metrics of finite scores, every one a threshold; labels are uint8, 0, 1, or 255: left out."""
    values, truth = _labelled(scores, labels)
    order = np.argsort(values)[::-1]
    values, tp = values[order], np.cumsum(truth[order] == 1)
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True)[: len(values)])
    return Curve(values[last], tp[last], last + 1 - tp[last]).result(exact=True)


def _labelled(scores: NDArray[Any], labels: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Return the scores and labels of the pixels that count, checked."""
    if scores.shape != labels.shape:
        raise Vl4adError(f"Scores and labels differ in size: {scores.shape} and {labels.shape}.")
    seen = labels != VOID
    values, truth = scores[seen], labels[seen]
    if truth.size and truth.max() > 1:
        raise Vl4adError(f"Labels must be 0, 1 or 255 (void), found {int(truth.max())}.")
    if not np.isfinite(values).all():
        raise Vl4adError("The scores contain NaN or infinity; every pixel needs a finite number.")
    return values, truth


def score_levels(scores: NDArray[Any], levels: int = LEVELS) -> NDArray[np.int32]:
    """Return the level of each score in [0, 1]: the largest one whose lower edge is not above it."""
    level: NDArray[np.int32] = (scores * np.float32(levels)).astype(np.int32)
    return np.minimum(level, levels - 1)


def count_levels(scores: NDArray[Any], labels: NDArray[np.uint8]) -> Counts:
    """Count pixels with scores in [0, 1] by level: int64 [2, LEVELS], those labelled 0 and those labelled 1."""
    values, truth = _labelled(scores, labels)
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise Vl4adError(f"Scores must lie in [0, 1] to be counted, found {values.min()} to {values.max()}.")
    place = score_levels(values) + LEVELS * truth.astype(np.int32)
    return np.bincount(place, minlength=2 * LEVELS).reshape(2, LEVELS)


class PixelMetrics:
    """Collects scores and labels frame by frame; `result` may be asked for at any time."""

    def __init__(self) -> None:
        # int64 [2, LEVELS], see `count_levels`, of everything added so far.
        self.counts: Counts = np.zeros((2, LEVELS), np.int64)

    def add(self, scores: NDArray[Any], labels: NDArray[np.uint8]) -> None:
        """Add a frame; arguments and errors as of `count_levels`."""
        self.counts += count_levels(scores, labels)

    def curve(self) -> Curve:
        """Return the counts above the lower edge of every level that is not empty."""
        filled = np.flatnonzero(self.counts.any(axis=0))[::-1]
        fp, tp = np.cumsum(self.counts[:, filled], axis=1)
        return Curve((filled / LEVELS).astype(np.float32), tp, fp)

    def result(self) -> PixelResult:
        """Return the metrics of everything added so far."""
        return self.curve().result(exact=False)
