"""Pixel metrics over any number of frames: AP, AUROC, FPR95, best F1.

Up to a number of pixels everything is exact: all scores are kept and sorted, ties go together. Beyond it the scores,
which must lie in [0, 1], are counted in a histogram of 2^21 equal bins, and `error` bounds what that may change.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.labels import VOID

EXACT_PIXELS = 1 << 22
# A power of two, so that the edges of all bins are float32 numbers.
BINS = 1 << 21
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class PixelResult:
    """Pixel metrics of a set of frames. A metric that needs a kind of pixel that never came is NaN.

    Attributes:
        ap: Average precision: the step-wise sum over thresholds of (recall gained) x (precision), 0..1.
        auroc: Area under the ROC curve (trapezoids, so that a tie counts one half), 0..1.
        fpr95: False-positive rate at the highest threshold whose true-positive rate is >= 0.95.
        best_f1: Largest F1 over all thresholds.
        best_f1_threshold: The threshold of `best_f1`; a pixel with `score >= threshold` is predicted anomalous.
        fpr95_threshold: The threshold of `fpr95`.
        positives: Pixels labelled 1.
        negatives: Pixels labelled 0.
        error: Upper bound of the error of ap, auroc and fpr95 through scores that share a bin; 0 = exact.
    """

    ap: float
    auroc: float
    fpr95: float
    best_f1: float
    best_f1_threshold: float
    fpr95_threshold: float
    positives: int
    negatives: int
    error: float

    def as_dict(self) -> dict[str, float | int]:
        """Return the fields as plain data."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Curve:
    """Counts at or above each threshold, from the highest threshold to the lowest.

    Attributes:
        thresholds: [T], descending; predicted anomalous means `score >= threshold`.
        tp: int64 [T], pixels labelled 1 at or above the threshold.
        fp: int64 [T], pixels labelled 0 at or above the threshold.
    """

    thresholds: NDArray[Any]
    tp: Counts
    fp: Counts

    def thin(self, points: int) -> Curve:
        """Return about `points` thresholds, spread evenly over recall and false-positive rate, for drawing."""
        if len(self.tp) <= points:
            return self
        spread = self.tp / max(self.tp[-1], 1) + self.fp / max(self.fp[-1], 1)
        keep = np.unique(np.searchsorted(spread, np.linspace(spread[0], spread[-1], points)).clip(0, len(spread) - 1))
        return Curve(self.thresholds[keep], self.tp[keep], self.fp[keep])


class PixelMetrics:
    """Collects scores and labels frame by frame; `result` may be asked for at any time.

    Two collectors that saw parts of the data can be merged; the result equals that of one that saw all of it.
    """

    def __init__(self, exact_pixels: int | None = EXACT_PIXELS) -> None:
        """Start empty.

        Args:
            exact_pixels: Pixels up to which everything is exact; None keeps all, whatever their range.
        """
        self._limit = exact_pixels
        self._waiting: list[tuple[NDArray[Any], NDArray[np.bool_]]] = []
        self._pixels = 0
        self._counts: Counts | None = None

    def add(self, scores: NDArray[Any], labels: NDArray[np.uint8]) -> None:
        """Add a frame.

        Args:
            scores: Any shape, finite numbers, higher = more anomalous.
            labels: uint8, the same shape, 1 = anomaly, 0 = none, 255 = leave out.

        Raises:
            Vl4adError: If the shapes differ, a score is not a finite number, or a label is none of 0, 1, 255.
        """
        if scores.shape != labels.shape:
            raise Vl4adError(f"Scores and labels differ in size: {scores.shape} and {labels.shape}.")
        seen = labels != VOID
        truth, values = labels[seen], scores[seen]
        if truth.size and truth.max() > 1:
            raise Vl4adError(f"Labels must be 0, 1 or 255 (void), found {int(truth.max())}.")
        if not np.isfinite(values).all():
            raise Vl4adError("The scores contain NaN or infinity; every pixel needs a finite number.")
        self._waiting.append((values, truth.astype(bool)))
        self._pixels += truth.size
        self._count_beyond_limit()

    def merge(self, other: PixelMetrics) -> None:
        """Add everything that another collector saw."""
        self._waiting += other._waiting
        self._pixels += other._pixels
        if other._counts is not None:
            self._counts = other._counts + (0 if self._counts is None else self._counts)
        self._count_beyond_limit()

    def _count_beyond_limit(self) -> None:
        if self._limit is None or self._pixels <= self._limit:
            return
        # In portions: a pass over all bins costs as much as a million pixels.
        if self._counts is None or sum(len(truth) for _, truth in self._waiting) > BINS:
            self._count()

    def _count(self) -> None:
        """Move the scores that wait into the histogram."""
        total = np.zeros((2, BINS), np.int64) if self._counts is None else self._counts
        for values, truth in self._waiting:
            if values.size and not (values.min() >= 0 and values.max() <= 1):
                raise Vl4adError(f"More than {self._limit} scores must lie in [0, 1] to be counted.")
            bins = np.minimum((values * np.float32(BINS)).astype(np.int32), BINS - 1)
            for kind in (0, 1):
                total[kind] += np.bincount(bins[truth == kind], minlength=BINS)
        self._counts, self._waiting = total, []

    def curve(self) -> Curve:
        """Return the counts above every distinct score (or the lower edge of every bin that is not empty)."""
        if self._counts is not None:
            self._count()
            filled = np.flatnonzero(self._counts.any(axis=0))[::-1]
            fp, tp = np.cumsum(self._counts[:, filled], axis=1)
            return Curve((filled / BINS).astype(np.float32), tp, fp)
        values = np.concatenate([part for part, _ in self._waiting] or [np.empty(0, np.float32)])
        truth = np.concatenate([part for _, part in self._waiting] or [np.empty(0, bool)])
        order = np.argsort(values)[::-1]
        values, tp = values[order], np.cumsum(truth[order])
        last = np.flatnonzero(np.append(values[1:] != values[:-1], True)) if len(values) else np.empty(0, np.int64)
        return Curve(values[last], tp[last], last + 1 - tp[last])

    def result(self) -> PixelResult:
        """Return the metrics of everything added so far."""
        curve = self.curve()
        tp, fp = curve.tp, curve.fp
        positives, negatives = (int(tp[-1]), int(fp[-1])) if len(tp) else (0, 0)
        nan = float("nan")
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
            best_f1_threshold=curve.thresholds[best].item(),
            fpr95_threshold=curve.thresholds[at95].item(),
            positives=positives,
            negatives=negatives,
            error=0.0 if self._counts is None else _error(tp, fp, at95),
        )


def _error(tp: Counts, fp: Counts, at95: int) -> float:
    """Bound the error of ap, auroc and fpr95: within a bin either kind of pixel may come first."""
    positives, negatives = max(int(tp[-1]), 1), max(int(fp[-1]), 1)
    p, n = np.diff(tp, prepend=0), np.diff(fp, prepend=0)
    before_p, before_n = tp - p, fp - n
    middle = tp / (tp + fp)
    low = (before_p + 1) / (before_p + 1 + fp)
    high = tp / np.maximum(tp + before_n, 1)
    ap = max((p * (high - middle)).sum(), (p * (middle - low)).sum()) / positives
    auroc = (p.astype(np.float64) * n).sum() / 2 / positives / negatives
    return float(max(ap, auroc, n[at95] / negatives))
