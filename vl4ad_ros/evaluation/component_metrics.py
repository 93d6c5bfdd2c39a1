"""Component metrics as SegmentMeIfYouCan defines them (arXiv 2104.14812, section 4): adjusted IoU, precision, F1.

The label image of the ground truth and that of the prediction are made once, and one count over the pairs of labels
that meet in a pixel gives every intersection and union, however many components there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.labels import VOID

# As the evaluator computes them: comparisons at the edge depend on the last bit.
IOU_THRESHOLDS: NDArray[np.float64] = np.linspace(0.25, 0.75, 11, endpoint=True)
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Track:
    """Sizes in pixels: smaller predicted components are dropped, smaller ground-truth components become void."""

    name: str
    min_segment: int
    min_instance: int


TRACKS: dict[str, Track] = {"anomaly": Track("anomaly", 500, 100), "obstacle": Track("obstacle", 50, 10)}


def track(name: str) -> Track:
    """Return a track by name; one that is unknown is an error."""
    if name not in TRACKS:
        raise Vl4adError(f"Unknown track: expected one of {sorted(TRACKS)}, got '{name}'.")
    return TRACKS[name]


@dataclass(frozen=True)
class FrameComponents:
    """The components of one frame: G of the ground truth, P predicted."""

    siou: Floats  # float64 [G], adjusted IoU of each ground-truth component
    recall: Floats  # float64 [G], share of each ground-truth component's pixels that is predicted
    size: Ints  # int64 [G], pixels
    box: Ints  # int64 [G, 4], x0, y0, x1, y1 in pixels, the last two exclusive
    precision: Floats  # float64 [P], share of each predicted component that is ground truth (void left out)
    predicted_size: Ints  # int64 [P], pixels (void left out)


def match_components(
    mask: NDArray[np.bool_] | NDArray[np.uint8], labels: NDArray[np.uint8], track: Track
) -> FrameComponents:
    """Find a frame's components (8-connected) in a mask [H, W], and in labels uint8 (1 anomaly, 0 none, 255 void)."""
    if mask.shape != labels.shape:
        raise Vl4adError(f"Mask and labels differ in size: {mask.shape} and {labels.shape}.")
    truth = (labels == 1).view(np.uint8)
    predicted = (mask.astype(bool, copy=False) & (labels != VOID)).view(np.uint8)
    count_all, truth_map, truth_stats, _ = cv2.connectedComponentsWithStats(truth, connectivity=8)
    _, predicted_map, predicted_stats, _ = cv2.connectedComponentsWithStats(predicted, connectivity=8)
    truth_area, predicted_area = (stats[:, cv2.CC_STAT_AREA] for stats in (truth_stats, predicted_stats))
    # From here on only the true foreground is touched, which is a small part of most frames.
    place = np.flatnonzero(truth)
    truth_at = truth_map.reshape(-1)[place]

    # New numbers: 1.. for what counts, 0 for background and dropped predictions, G + 1 for dropped ground truth.
    truth_kept = np.flatnonzero(truth_area[1:] >= track.min_instance) + 1
    predicted_kept = np.flatnonzero(predicted_area[1:] >= track.min_segment) + 1
    count_truth, count_predicted = len(truth_kept), len(predicted_kept)
    truth_number = np.full(count_all, count_truth + 1)
    truth_number[truth_kept] = np.arange(1, count_truth + 1)
    predicted_number = np.zeros(len(predicted_area), np.int64)
    predicted_number[predicted_kept] = np.arange(1, count_predicted + 1)

    predicted_at = predicted_map.reshape(-1)[place]
    pair = truth_number[truth_at] * (count_predicted + 1) + predicted_number[predicted_at]
    pairs, shared = np.unique(pair, return_counts=True)
    truth_of, predicted_of = pairs // (count_predicted + 1), pairs % (count_predicted + 1)
    in_dropped = (truth_of == count_truth + 1) & (predicted_of > 0)
    size_predicted = predicted_area[predicted_kept] - _sum(predicted_of, shared, in_dropped, count_predicted)
    both = (truth_of >= 1) & (truth_of <= count_truth) & (predicted_of > 0)
    covered = _sum(predicted_of, shared, both, count_predicted)
    if labels.size - len(place) < track.min_instance:  # The evaluator counts the background as a component here.
        size_predicted = covered

    t, p, n = truth_of[both] - 1, predicted_of[both] - 1, shared[both]
    size = truth_area[truth_kept].astype(np.int64)
    shared_size = np.bincount(t, n, count_truth)
    touching = np.bincount(t, size_predicted[p], count_truth)
    # Predicted pixels that lie on other objects do not count as wrong for this one.
    on_others = np.bincount(t, covered[p] - n, count_truth)
    siou = shared_size / (touching + size - shared_size - on_others)
    x, y, width, height = truth_stats[truth_kept, :4].astype(np.int64).T
    box = np.stack([x, y, x + width, y + height], axis=1)
    visible = size_predicted > 0
    precision = covered[visible] / size_predicted[visible]
    return FrameComponents(siou, shared_size / size, size, box, precision, size_predicted[visible])


def _sum(number: Ints, counts: Ints, chosen: NDArray[np.bool_], length: int) -> Ints:
    return np.bincount(number[chosen] - 1, counts[chosen], length).astype(np.int64)


def count_matches(siou: ArrayLike, precision: ArrayLike) -> Ints:
    """Count at each of the 11 thresholds: int64 [3, 11], true positives, false negatives and false positives."""
    found = np.asarray(siou, np.float64)[:, None] >= IOU_THRESHOLDS
    wrong = np.asarray(precision, np.float64)[:, None] < IOU_THRESHOLDS
    return np.stack([found.sum(axis=0), (~found).sum(axis=0), wrong.sum(axis=0)])


def f1_of(counts: NDArray[np.number]) -> Floats:
    """Return the F1 of counts [3, ...] as of `count_matches`; NaN where nothing was counted."""
    tp, fn, fp = counts
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * tp / (2 * tp + fn + fp))


def summarise(siou: ArrayLike, precision: ArrayLike) -> dict[str, Any]:
    """Return the component metrics of a set of frames; NaN where there was nothing to average.

    The means `sIoU_gt`, `prec_pred` and `f1_mean`, and lists over the thresholds: `f1`, `tp`, `fn`, `fp`.
    """
    siou, precision = np.asarray(siou, np.float64), np.asarray(precision, np.float64)
    tp, fn, fp = counts = count_matches(siou, precision)
    f1 = f1_of(counts)
    return {
        "sIoU_gt": float(siou.mean()) if len(siou) else float("nan"),
        "prec_pred": float(precision.mean()) if len(precision) else float("nan"),
        "f1_mean": float(f1.mean()),
        "f1": f1.tolist(),
        "tp": tp.tolist(),
        "fn": fn.tolist(),
        "fp": fp.tolist(),
    }
