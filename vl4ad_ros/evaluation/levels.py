"""Histograms of uncertainty on 65,536 levels: one pass over a frame's pixels feeds all per-frame figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = 1 << 16
# For resampling frames: fine near 0 and near 1, where most pixels are.
COARSE_BINS = 1024
CALIBRATION_BINS = 15
_CENTRES = (np.arange(LEVELS) / (LEVELS - 1)).astype(np.float64)
_logistic = 1 / (1 + np.exp(-np.linspace(-11, 11, COARSE_BINS + 1)[1:-1]))
# First level of each coarse bin; near the ends several bins would share a level, so that some stay empty.
_COARSE_OF = np.searchsorted(_logistic, _CENTRES, side="right").astype(np.int64)
_CALIBRATION_OF = np.minimum((_CENTRES * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LevelCounts:
    """Pixels of a frame by level of uncertainty.

    Attributes:
        positive: int64 [65536], pixels labelled 1.
        negative: int64 [65536], pixels labelled 0 (without labels: all pixels).
    """

    positive: Counts
    negative: Counts

    def coarse(self) -> NDArray[np.uint32]:
        """Return uint32 [2, 1024]: negatives and positives in coarse bins."""
        return np.stack(
            [
                np.bincount(_COARSE_OF, counts, COARSE_BINS).astype(np.uint32)
                for counts in (self.negative, self.positive)
            ]
        )

    def calibration(self) -> NDArray[np.float64]:
        """Return float64 [3, 15]: pixels, anomalous pixels and summed uncertainty in bins of equal width."""
        both = self.positive + self.negative
        return np.stack(
            [
                np.bincount(_CALIBRATION_OF, weights, CALIBRATION_BINS)
                for weights in (both, self.positive, both * _CENTRES)
            ]
        )

    def quantile(self, share: float) -> float:
        """Return the level below or at which this share of all pixels lies."""
        total = np.cumsum(self.positive + self.negative)
        return float(_CENTRES[int(np.searchsorted(total, share * total[-1]))]) if total[-1] else float("nan")

    def mean(self) -> float:
        """Return the mean uncertainty of all pixels."""
        both = self.positive + self.negative
        return float((both * _CENTRES).sum() / both.sum()) if both.any() else float("nan")


def count_levels(uncertainty: NDArray[np.float32], labels: NDArray[np.uint8] | None) -> LevelCounts:
    """Count a frame's pixels by level.

    Args:
        uncertainty: float32 [H, W] in [0, 1].
        labels: uint8 [H, W], 1 = anomaly, 0 = none, 255 = left out; None counts all pixels as negative.
    """
    level = np.rint(uncertainty * np.float32(LEVELS - 1)).astype(np.uint16)
    if labels is None:
        return LevelCounts(np.zeros(LEVELS, np.int64), np.bincount(level.reshape(-1), minlength=LEVELS))
    positive = np.bincount(level[labels == 1], minlength=LEVELS)
    return LevelCounts(positive, np.bincount(level[labels == 0], minlength=LEVELS))


def average_precision(negative: NDArray[np.integer], positive: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the step-wise average precision of histograms.

    Args:
        negative: [..., bins], counts from the lowest score to the highest.
        positive: [..., bins], likewise.

    Returns:
        float64 [...]; NaN without positives.
    """
    gained = positive[..., ::-1].astype(np.float64)
    tp = np.cumsum(gained, axis=-1)
    seen = tp + np.cumsum(negative[..., ::-1].astype(np.float64), axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((gained * tp / np.maximum(seen, 1)).sum(axis=-1) / tp[..., -1])


def fpr_at_95(negative: NDArray[np.integer], positive: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the false-positive rate at the highest bin with a true-positive rate >= 0.95; shapes as above."""
    tp = np.cumsum(positive[..., ::-1].astype(np.float64), axis=-1)
    fp = np.cumsum(negative[..., ::-1].astype(np.float64), axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        at = (tp / tp[..., -1:] >= 0.95).argmax(axis=-1)
        rate = np.take_along_axis(fp, at[..., None], axis=-1)[..., 0] / fp[..., -1]
    return np.where(tp[..., -1] > 0, rate, np.nan)


def calibration_error(bins: NDArray[np.float64]) -> float:
    """Return the expected calibration error, taking the uncertainty as the probability of an anomaly.

    Args:
        bins: float64 [3, bins] as of `LevelCounts.calibration`, summed over frames.
    """
    pixels, anomalous, uncertainty = bins
    if not pixels.sum():
        return float("nan")
    return float(np.abs(anomalous - uncertainty).sum() / pixels.sum())
