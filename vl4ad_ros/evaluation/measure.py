"""Everything that is measured on one frame, as plain data for the per-frame JSONL and two small arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.component_metrics import FrameComponents, Track, match_components
from vl4ad_ros.evaluation.frames import Frame
from vl4ad_ros.evaluation.levels import LevelCounts, average_precision, count_levels, fpr_at_95
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.frames import anomaly_mask


def measure(
    frame: Frame, uncertainty: NDArray[np.float32], threshold: float, track: Track
) -> tuple[dict[str, Any], LevelCounts]:
    """Measure one frame.

    Args:
        frame: The frame.
        uncertainty: float32 [H, W] in [0, 1], the labels' size (the image's where there are no labels).
        threshold: At or above it a pixel counts as anomalous.
        track: Smallest component sizes.

    Returns:
        The record (finite numbers, lists, text and None only) and the pixel counts by level.

    Raises:
        Vl4adError: If the labels have another size than the map.
    """
    labels = frame.labels
    if labels is not None and labels.shape != uncertainty.shape:
        raise Vl4adError(f"Frame {frame.name}: its labels are {labels.shape}, its uncertainty map {uncertainty.shape}.")
    levels = count_levels(uncertainty, labels)
    mask = anomaly_mask(uncertainty, threshold)
    found = match_components(mask, np.zeros(mask.shape, np.uint8) if labels is None else labels, track)
    record: dict[str, Any] = {
        "index": frame.index,
        "name": frame.name,
        "stamp_ns": frame.stamp_ns,
        "drive": frame.drive,
        "height": int(uncertainty.shape[0]),
        "width": int(uncertainty.shape[1]),
        "latency_ms": {stage: round(value, 3) for stage, value in frame.latency_ms.items()},
        "uncertainty_mean": finite(levels.mean()),
        "uncertainty_p99": finite(levels.quantile(0.99)),
        "uncertainty_max": float(uncertainty.max()),
        "mask_share": float(np.count_nonzero(mask) / mask.size),
        "segments": [
            {"size": int(s), "precision": float(p) if labels is not None else None}
            for s, p in zip(found.predicted_size, found.precision, strict=True)
        ],
    }
    if labels is not None:
        record |= {
            "positives": int(levels.positive.sum()),
            "negatives": int(levels.negative.sum()),
            "ap": finite(float(average_precision(levels.negative, levels.positive))),
            "fpr95": finite(float(fpr_at_95(levels.negative, levels.positive))),
            "objects": [
                {"siou": float(i), "recall": float(r), "size": int(s), "box": [int(v) for v in b]}
                for i, r, s, b in zip(found.siou, found.recall, found.size, found.box, strict=True)
            ],
        }
    return record, levels


def is_labelled(record: dict[str, Any]) -> bool:
    """Return whether the frame had ground truth."""
    return "objects" in record


def components_of(record: dict[str, Any]) -> FrameComponents:
    """Return a labelled frame's components as arrays again."""
    objects, segments = record["objects"], record["segments"]
    return FrameComponents(
        siou=np.array([o["siou"] for o in objects], np.float64),
        recall=np.array([o["recall"] for o in objects], np.float64),
        size=np.array([o["size"] for o in objects], np.int64),
        box=np.array([o["box"] for o in objects], np.int64).reshape(-1, 4),
        precision=np.array([s["precision"] for s in segments], np.float64),
        predicted_size=np.array([s["size"] for s in segments], np.int64),
    )


def finite(value: float) -> float | None:
    """Return the number, or None for NaN and infinity, which JSON lacks."""
    return value if math.isfinite(value) else None
