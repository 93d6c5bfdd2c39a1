"""Pixel metrics over any number of frames in bounded memory: AP, AUROC, FPR95, best F1.

Counts are kept per distinct float32 score, so that the results are exact, ties included. Beyond a number of distinct
scores they are kept in cells of a grid (`score_counts`), and `error` bounds what that may change.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.score_counts import Keys, ScoreCounts, to_keys, to_scores
from vl4ad_ros.io.errors import Vl4adError

VOID = 255
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
        error: Upper bound of the error of ap, auroc and fpr95 through scores that share a cell; 0 = exact.
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


@dataclass(frozen=True)
class Curve:
    """Counts above each threshold, from the highest threshold to the lowest.

    Attributes:
        thresholds: float32 [T], descending; predicted anomalous means `score >= threshold`.
        tp: int64 [T], pixels labelled 1 at or above the threshold.
        fp: int64 [T], pixels labelled 0 at or above the threshold.
    """

    thresholds: NDArray[np.float32]
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

    def __init__(self, max_distinct: int = 1 << 22, max_cells: int = 1 << 24, buffer: int = 1 << 22) -> None:
        """Start empty.

        Args:
            max_distinct: Distinct scores up to which everything is exact.
            max_cells: Cells beyond that, 16 bytes each.
            buffer: Pixels to gather before they are counted, 5 bytes each.
        """
        self._counts = ScoreCounts(max_distinct, max_cells)
        self._buffer = buffer
        self._pending: list[tuple[Keys, NDArray[np.bool_]]] = []
        self._waiting = 0

    def add(self, scores: NDArray[np.floating], labels: NDArray[np.uint8]) -> None:
        """Add a frame.

        Args:
            scores: [H, W], any finite numbers (taken as float32), higher = more anomalous.
            labels: uint8 [H, W], 1 = anomaly, 0 = none, 255 = leave out.

        Raises:
            Vl4adError: If the shapes differ, a score is not a finite number, or a label is none of 0, 1, 255.
        """
        if scores.shape != labels.shape:
            raise Vl4adError(f"Scores and labels differ in size: {scores.shape} and {labels.shape}.")
        seen = labels != VOID
        truth = labels[seen]
        if truth.size and truth.max() > 1:
            raise Vl4adError(f"Labels must be 0, 1 or 255 (void), found {int(truth.max())}.")
        with np.errstate(over="ignore"):
            values = np.asarray(scores, dtype=np.float32)[seen]
        if not np.isfinite(values).all():
            if np.isfinite(scores[seen]).all():
                raise Vl4adError("The scores have numbers beyond float32 (3.4e38); scale them.")
            raise Vl4adError("The scores contain NaN or infinity; every pixel needs a finite number.")
        self._pending.append((to_keys(values), truth.astype(bool)))
        self._waiting += truth.size
        if self._waiting >= self._buffer:
            self._settle()

    def merge(self, other: PixelMetrics) -> None:
        """Add everything that another collector saw."""
        other._settle()
        self._settle()
        self._counts.merge(other._counts)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what has been collected as arrays, for storing; `from_state` undoes it."""
        self._settle()
        return self._counts.state()

    @classmethod
    def from_state(cls, state: dict[str, NDArray[np.generic]]) -> PixelMetrics:
        """Rebuild a collector from the arrays of `state`."""
        metrics = cls()
        metrics._counts.load(state)
        return metrics

    def _settle(self) -> None:
        """Count the buffered pixels."""
        if not self._pending:
            return
        keys, truth = (np.concatenate(parts) for parts in zip(*self._pending, strict=True))
        self._pending, self._waiting = [], 0
        self._counts.add(keys, truth)

    def curve(self) -> Curve:
        """Return the counts above every distinct score (or cell of scores: its lower edge)."""
        return self._curve()[0]

    def _curve(self) -> tuple[Curve, NDArray[np.bool_]]:
        self._settle()
        keys, (negative, positive), several = self._counts.entries()
        return Curve(to_scores(keys)[::-1], np.cumsum(positive[::-1]), np.cumsum(negative[::-1])), several[::-1]

    def result(self) -> PixelResult:
        """Return the metrics of everything added so far."""
        curve, several = self._curve()
        tp, fp = curve.tp, curve.fp
        positives, negatives = (int(tp[-1]), int(fp[-1])) if len(tp) else (0, 0)
        nan = float("nan")
        if not positives:
            return PixelResult(nan, nan, nan, nan, nan, nan, positives, negatives, 0.0)
        gained = np.diff(tp, prepend=0)
        ap = float((gained * (tp / (tp + fp))).sum() / positives)
        f1 = 2 * tp / (tp + fp + positives)
        best = int(f1.argmax())
        at95 = int((tp / positives >= 0.95).argmax())
        auroc = fpr95 = nan
        if negatives:
            raised = np.diff(fp, prepend=0)
            auroc = float((raised * (tp - gained / 2)).sum() / positives / negatives)
            fpr95 = float(fp[at95] / negatives)
        return PixelResult(
            ap=ap,
            auroc=auroc,
            fpr95=fpr95,
            best_f1=float(f1[best]),
            best_f1_threshold=float(curve.thresholds[best]),
            fpr95_threshold=float(curve.thresholds[at95]),
            positives=positives,
            negatives=negatives,
            error=0.0 if self._counts.exact else _error(curve, several, at95),
        )


def _error(curve: Curve, several: NDArray[np.bool_], at95: int) -> float:
    """Bound the error of ap, auroc and fpr95: within a cell of several scores, either kind of pixel may come first."""
    positives, negatives = max(int(curve.tp[-1]), 1), max(int(curve.fp[-1]), 1)
    fpr95 = np.diff(curve.fp[max(at95 - 1, 0) : at95 + 1], prepend=0)[-1] if several[at95] else 0
    p = np.diff(curve.tp, prepend=0)
    shared = np.flatnonzero(several & (p > 0))  # Cells without a positive move no figure.
    p, tp, fp = (part[shared].astype(np.float64) for part in (p, curve.tp, curve.fp))
    before_p, before_n = tp - p, np.where(shared > 0, curve.fp[shared - 1], 0)
    middle = tp / (tp + fp)
    low = (before_p + 1) / (before_p + 1 + fp)
    high = tp / np.maximum(tp + before_n, 1)
    ap = max((p * (high - middle)).sum(), (p * (middle - low)).sum()) / positives
    auroc = (p * (fp - before_n)).sum() / 2 / positives / negatives
    return float(max(ap, auroc, fpr95 / negatives))
