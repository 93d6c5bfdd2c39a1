"""Histograms of uncertainty: 65,536 levels feed the figures of a frame, 1,024 bins are kept for resampling."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.pixel_metrics import score_levels
from vl4ad_ros.io.labels import VOID

LEVELS = 1 << 16
# For resampling frames: fine near 0 and near 1, where most pixels are.
COARSE_BINS = 1024
CALIBRATION_BINS = 15
# Largest false-positive rate of the per-region overlap, as the authors of MVTec-AD have it.
PRO_LIMIT = 0.3
_CENTRES = (np.arange(LEVELS) + 0.5) / LEVELS
_logistic = 1 / (1 + np.exp(-np.linspace(-11, 11, COARSE_BINS + 1)[1:-1]))
_COARSE_OF = np.searchsorted(_logistic, _CENTRES, side="right")
_CALIBRATION_OF = (_CENTRES * CALIBRATION_BINS).astype(np.int64)


def fold(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the counts of `pixel_metrics.count_levels` in fewer levels, int64 [2, 65536]."""
    return np.asarray(counts.reshape(2, LEVELS, -1).sum(axis=-1))


def coarse(counts: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return the counts of the levels in coarse bins, uint32 [2, 1024]."""
    return np.stack([np.bincount(_COARSE_OF, part, COARSE_BINS).astype(np.uint32) for part in counts])


def calibration(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return float64 [3, 15]: pixels, anomalous pixels and summed uncertainty in bins of equal width."""
    both = counts.sum(axis=0)
    rows = (both, counts[1], both * _CENTRES)
    return np.stack([np.bincount(_CALIBRATION_OF, row, CALIBRATION_BINS) for row in rows])


def calibration_error(bins: NDArray[np.float64]) -> float:
    """Return the expected calibration error of `calibration`, taking the uncertainty as that of an anomaly."""
    pixels, anomalous, uncertainty = bins
    return float(np.abs(anomalous - uncertainty).sum() / pixels.sum()) if pixels.sum() else float("nan")


def mean_and_p99(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean uncertainty of all pixels, and the level at or below which 99 % of them lie; NaN of none."""
    total = np.cumsum(counts.sum(axis=0))
    if not total[-1]:
        return float("nan"), float("nan")
    p99 = _CENTRES[np.searchsorted(total, 0.99 * total[-1])]
    return float((counts.sum(axis=0) * _CENTRES).sum() / total[-1]), float(p99)


def average_precision(negative: NDArray[np.number], positive: NDArray[np.number]) -> NDArray[np.float64]:
    """Return the average precision [...] of counts [..., bins], the lowest score first; NaN without positives."""
    gained = positive[..., ::-1].astype(np.float64)
    tp = np.cumsum(gained, axis=-1)
    seen = tp + np.cumsum(negative[..., ::-1].astype(np.float64), axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((gained * tp / np.maximum(seen, 1)).sum(axis=-1) / tp[..., -1])


def fpr_at_95(negative: NDArray[np.number], positive: NDArray[np.number]) -> NDArray[np.float64]:
    """Return the false-positive rate at the highest bin with a true-positive rate >= 0.95; shapes as above."""
    tp = np.cumsum(positive[..., ::-1].astype(np.float64), axis=-1)
    fp = np.cumsum(negative[..., ::-1].astype(np.float64), axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        at = (tp / tp[..., -1:] >= 0.95).argmax(axis=-1)
        rate = np.take_along_axis(fp, at[..., None], axis=-1)[..., 0] / fp[..., -1]
    return np.where(tp[..., -1] > 0, rate, np.nan)


def auroc(negative: NDArray[np.number], positive: NDArray[np.number]) -> NDArray[np.float64]:
    """Return the area under the ROC curve, a tie counting one half; shapes as above; NaN where a kind is missing."""
    gained, fp = positive[..., ::-1].astype(np.float64), negative[..., ::-1].astype(np.float64)
    tp = np.cumsum(gained, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((fp * (tp - gained / 2)).sum(axis=-1) / tp[..., -1] / fp.sum(axis=-1))


def coarse_by_rank(scores: NDArray[Any], labels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return histograms, uint32 [F, 2, 1024], of finite scores [F, H, W] of any range; labels uint8, 255 left out.

    The bins follow the order of the scores; each holds about as large a share of the negatives and of the positives
    together as any other, so that rare anomalies are resolved, too.
    """
    seen = labels != VOID
    _, rank = np.unique(scores[seen], return_inverse=True)
    counts = [np.bincount(rank[labels[seen] == kind], minlength=rank.max(initial=0) + 1) for kind in (0, 1)]
    share = sum(np.cumsum(count) / max(count.sum(), 1) for count in counts) / 2
    place = np.zeros(labels.shape, np.int64)
    place[seen] = np.minimum(share * COARSE_BINS, COARSE_BINS - 1).astype(np.int64)[rank]
    return np.stack(
        [
            [np.bincount(bins[truth == kind], minlength=COARSE_BINS) for kind in (0, 1)]
            for bins, truth in zip(place, labels, strict=True)
        ]
    ).astype(np.uint32)


def count_regions(uncertainty: NDArray[np.float32], labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the regions labelled 1 by level, float64 [65536]: a pixel counts as its share of its region."""
    count, region = cv2.connectedComponents((labels == 1).view(np.uint8), connectivity=8)
    share = 1 / np.maximum(np.bincount(region.reshape(-1), minlength=count), 1)
    inside = region > 0
    levels = score_levels(uncertainty[inside], LEVELS)
    return np.bincount(levels, share[region[inside]], LEVELS).astype(np.float64)


def region_overlap(regions: NDArray[np.float64], negative: NDArray[np.number], limit: float = PRO_LIMIT) -> float:
    """Return PRO in [0, 1]: the area under mean region recall over false-positive rate, up to a rate, over that rate.

    Bergmann et al., The MVTec Anomaly Detection Dataset (IJCV 2021), section 5; the curve is cut at the limit by linear
    interpolation. From `count_regions`, float64 [65536], summed over frames, and the pixels labelled 0, [65536]; NaN
    without normal pixels or regions.
    """
    total, normal = float(regions.sum()), float(negative.sum())
    if not total or not normal:
        return float("nan")
    recall = np.append(0.0, np.cumsum(regions[::-1]) / total)
    fpr = np.append(0.0, np.cumsum(negative[::-1]) / normal)
    inside = np.count_nonzero(fpr <= limit)
    fpr_cut, recall_cut = np.append(fpr[:inside], limit), np.append(recall[:inside], np.interp(limit, fpr, recall))
    return float((np.diff(fpr_cut) * (recall_cut[1:] + recall_cut[:-1]) / 2).sum() / limit)
