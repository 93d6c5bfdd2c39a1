"""Pixel metrics over any number of frames in bounded memory: AP, AUROC, FPR95, best F1.

Counts are kept per distinct float32 score, so that the results are exact, ties included. When the distinct scores
outgrow the memory limit, the lowest mantissa bits are dropped, one at a time; `error` then bounds what that may change.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.errors import Vl4adError

VOID = 255
Counts = NDArray[np.int64]
Bins = NDArray[np.uint32]


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
        error: Upper bound of the error of ap, auroc and fpr95 through dropped mantissa bits; 0 = exact.
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


def _keys(scores: NDArray[np.float32]) -> Bins:
    """Map float32 to uint32 so that the order stays; adding zero makes -0 and 0 one value."""
    bits = (scores + np.float32(0)).view(np.uint32)
    keys: Bins = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint32)
    return keys


def _values(keys: Bins) -> NDArray[np.float32]:
    """Undo `_keys`."""
    bits: Bins = np.where(keys >> 31, keys ^ np.uint32(1 << 31), ~keys).astype(np.uint32)
    return bits.view(np.float32)


def _drop(keys: Bins, bits: int) -> Bins:
    """Drop the lowest bits."""
    dropped: Bins = np.right_shift(keys, np.uint32(bits))
    return dropped


def _starts(ordered: Bins) -> NDArray[np.intp]:
    """Return where each distinct value of a sorted array begins."""
    if not len(ordered):
        return np.empty(0, np.intp)
    return np.concatenate([np.zeros(1, np.intp), np.flatnonzero(np.diff(ordered)) + 1])


def _count(keys: Bins) -> tuple[Bins, Counts]:
    """Return the distinct values, sorted, and how often each occurs (`numpy.unique` is many times slower here)."""
    ordered = np.sort(keys)
    starts = _starts(ordered)
    return ordered[starts], np.diff(starts, append=len(ordered)).astype(np.int64)


class PixelMetrics:
    """Collects scores and labels frame by frame; `result` may be asked for at any time.

    Two collectors that saw parts of the data can be merged; the result equals that of one that saw all of it.
    """

    def __init__(self, max_distinct: int = 1 << 23, buffer: int = 1 << 23) -> None:
        """Start empty.

        Args:
            max_distinct: Distinct scores to keep apart, 20 bytes each.
            buffer: Pixels to gather before they are sorted in, 5 bytes each.
        """
        self._limit = max_distinct
        self._buffer = buffer
        self._pending: list[tuple[Bins, NDArray[np.bool_]]] = []
        self._waiting = 0
        self._shift = 0
        self._bins = np.empty(0, np.uint32)
        self._positive: Counts = np.empty(0, np.int64)
        self._negative: Counts = np.empty(0, np.int64)

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
        values = np.asarray(scores, dtype=np.float32)[seen]
        if not np.isfinite(values).all():
            raise Vl4adError("The scores contain NaN or infinity; every pixel needs a finite number.")
        self._pending.append((_keys(values), truth.astype(bool)))
        self._waiting += truth.size
        if self._waiting >= self._buffer:
            self._settle()

    def merge(self, other: PixelMetrics) -> None:
        """Add everything that another collector saw."""
        other._settle()
        self._settle()
        shift = max(self._shift, other._shift)
        self._coarsen(shift)
        apart = shift - other._shift
        self._insert(_drop(other._bins, apart), other._positive, other._negative)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what has been collected as arrays, for storing; `from_state` undoes it."""
        self._settle()
        return {
            "shift": np.asarray(self._shift),
            "bins": self._bins,
            "positive": self._positive,
            "negative": self._negative,
        }

    @classmethod
    def from_state(cls, state: dict[str, NDArray[np.generic]]) -> PixelMetrics:
        """Rebuild a collector from the arrays of `state`."""
        metrics = cls()
        metrics._shift = int(state["shift"])
        metrics._bins = state["bins"].astype(np.uint32)
        metrics._positive = state["positive"].astype(np.int64)
        metrics._negative = state["negative"].astype(np.int64)
        return metrics

    def _settle(self) -> None:
        """Sort the buffered pixels into the counts."""
        if not self._pending:
            return
        keys = _drop(np.concatenate([k for k, _ in self._pending]), self._shift)
        truth = np.concatenate([t for _, t in self._pending])
        self._pending, self._waiting = [], 0
        parts = [_count(keys[truth]), _count(keys[~truth])]
        nothing = [np.zeros(len(bins), np.int64) for bins, _ in parts]
        self._insert(
            np.concatenate([bins for bins, _ in parts]),
            np.concatenate([parts[0][1], nothing[1]]),
            np.concatenate([nothing[0], parts[1][1]]),
        )

    def _insert(self, bins: Bins, positive: Counts, negative: Counts) -> None:
        """Add counts of bins at the current resolution."""
        together = np.concatenate([self._bins, bins])
        order = np.argsort(together, kind="stable")  # Sorted runs, which a stable sort merges in linear time.
        self._add_up(
            together[order],
            np.concatenate([self._positive, positive])[order],
            np.concatenate([self._negative, negative])[order],
        )
        # One bit at a time: the resolution then depends on the set of scores alone, not on the order of the frames,
        # and merged parts equal the whole.
        while len(self._bins) > self._limit:
            self._coarsen(self._shift + 1)

    def _coarsen(self, shift: int) -> None:
        if shift <= self._shift:
            return
        bins = _drop(self._bins, shift - self._shift)
        self._shift = shift
        self._add_up(bins, self._positive, self._negative)

    def _add_up(self, ordered: Bins, positive: Counts, negative: Counts) -> None:
        """Take sorted bins and the counts of each as the new state, adding up those of equal bins."""
        starts = _starts(ordered)
        self._bins = ordered[starts]
        self._positive = np.add.reduceat(positive, starts) if len(starts) else positive
        self._negative = np.add.reduceat(negative, starts) if len(starts) else negative

    def curve(self) -> Curve:
        """Return the counts above every distinct score (or bin of scores: its lower edge)."""
        self._settle()
        thresholds = _values((self._bins << self._shift).astype(np.uint32))[::-1]
        return Curve(thresholds, np.cumsum(self._positive[::-1]), np.cumsum(self._negative[::-1]))

    def result(self) -> PixelResult:
        """Return the metrics of everything added so far."""
        curve = self.curve()
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
            error=self._error(curve, at95) if self._shift else 0.0,
        )

    @staticmethod
    def _error(curve: Curve, at95: int) -> float:
        """Bound the error of ap, auroc and fpr95: within a bin, either kind of pixel may have come first."""
        tp, fp = curve.tp.astype(np.float64), curve.fp.astype(np.float64)
        p, n = np.diff(tp, prepend=0), np.diff(fp, prepend=0)
        before_p, before_n = tp - p, fp - n
        middle = tp / (tp + fp)
        low = (before_p + 1) / (before_p + 1 + fp)
        high = tp / np.maximum(tp + before_n, 1)
        ap = max((p * (high - middle)).sum(), (p * (middle - low)).sum()) / tp[-1]
        auroc = (p * n).sum() / 2 / (tp[-1] * max(fp[-1], 1))
        fpr95 = n[at95] / max(fp[-1], 1)
        return float(max(ap, auroc, fpr95))
