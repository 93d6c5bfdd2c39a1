"""Evaluating the method on road data sets with CLIP's image tower: pixel AP, FPR95 and AUROC."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from typing import Any

from vl4ad_ros.evaluation.datasets import DatasetSource
from vl4ad_ros.evaluation.pixel_metrics import PixelMetrics
from vl4ad_ros.random_word.clip_detector import ClipWindowDetector
from vl4ad_ros.runtime.frames import upsample

FIGURES = ("ap", "fpr95", "auroc", "error", "positives", "negatives")


def evaluate_road(
    detector: ClipWindowDetector,
    source: DatasetSource,
    batch: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score every labelled frame, at the size of its labels.

    Args:
        detector: The detector; it resizes each frame to its tower's input.
        source: The data set.
        batch: Frames at a time.
        progress: Called with (frames done, frames in all).

    Returns:
        `data`: what the data set is; `frames`: how many were scored; `problems`: sentences on what could not be read or
        lacks its partner; `pixel`: `ap`, `fpr95`, `auroc`, `error` (bound of what shared cells of scores
        may change), `positives`, `negatives`. A figure that needs a kind of pixel that never came is None.
    """
    metrics, done = PixelMetrics(), 0
    frames = (frame for frame in source.frames(range(len(source))) if frame.labels is not None)
    while part := list(islice(frames, batch)):
        for frame, detection in zip(part, detector.detect([frame.image for frame in part]), strict=True):
            assert frame.labels is not None
            metrics.add(upsample(detection.map, *frame.labels.shape), frame.labels)
        done += len(part)
        if progress is not None:
            progress(part[-1].index + 1, len(source))
    values = metrics.result().as_dict()
    pixel = {name: None if math.isnan(values[name]) else values[name] for name in FIGURES}
    return {"data": source.description, "frames": done, "problems": source.problems, "pixel": pixel}
