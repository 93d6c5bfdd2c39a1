"""Evaluation with CLIP's image tower, on product inspection data and on road data sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.datasets import DatasetSource
from vl4ad_ros.evaluation.pixel_metrics import PixelMetrics
from vl4ad_ros.random_word.clip_detector import ClipWindowDetector, Detection
from vl4ad_ros.random_word.gap import Reference
from vl4ad_ros.random_word.product_metrics import FIGURES, ProductMetrics
from vl4ad_ros.random_word.products import ProductCategory, ProductImage
from vl4ad_ros.runtime.frames import upsample

Figures = dict[str, float | int | None]
T = TypeVar("T")
_ROAD_FIGURES = ("ap", "fpr95", "auroc", "error", "positives", "negatives")


def evaluate_products(
    detector: ClipWindowDetector,
    categories: Sequence[ProductCategory],
    side: int = 256,
    batch: int = 4,
    gap: Reference | None = None,
    gap_images: int = 16,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Score every test picture; return the figures by category and their mean.

    Args:
        detector: The detector.
        categories: Product categories.
        side: Pictures and masks are resized to side x side before they are scored, as is usual for these data sets.
        batch: Pictures at a time.
        gap: Close the gap between image and text embeddings with the category's first training pictures, which are
            all normal: no label and no defect is seen. None leaves it open.
        gap_images: How many of them.
        progress: Called with (category, pictures done, pictures in all).

    Returns:
        `categories`: name -> figures, None where a category lacks the pictures for one (no defect, say); `mean`: their
        means over the categories that have them; `left_out`: figure -> the categories that do not.
    """

    def read(picture: ProductImage) -> NDArray[np.uint8]:
        return np.asarray(cv2.resize(picture.read(), (side, side), interpolation=cv2.INTER_AREA), dtype=np.uint8)

    results: dict[str, Figures] = {}
    for category in categories:
        ready = detector
        if gap is not None and category.train:
            ready = detector.with_gap_closed([read(picture) for picture in category.train[:gap_images]], gap, batch)
        metrics = ProductMetrics()
        for done, (picture, detection) in enumerate(_detections(ready, category.test, read, batch), start=1):
            metrics.add(detection.score, detection.map, picture.read_mask(side, side), picture.anomalous)
            if progress is not None:
                progress(category.name, done, len(category.test))
        results[category.name] = _without_nan(metrics.result())
    return {"categories": results, **_summary(results)}


def evaluate_road(
    detector: ClipWindowDetector,
    source: DatasetSource,
    batch: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score every labelled frame of a road data set, at the size of its labels.

    Args:
        detector: The detector; it resizes each frame to its tower's input.
        source: The data set.
        batch: Frames at a time.
        progress: Called with (frames done, frames in all).

    Returns:
        `data`: the data set's description; `frames`: how many were scored; `problems`: sentences on files that could
        not be read or lack their partner; `pixel`: `ap`, `fpr95`, `auroc`, `error` (bound of what shared cells of
        scores may change), `positives`, `negatives`. A figure that needs a kind of pixel that never came is None.
    """
    metrics, done = PixelMetrics(), 0
    frames = source.frames(range(len(source)))
    for frame, detection in _detections(detector, frames, lambda frame: frame.image, batch):
        if frame.labels is not None:
            metrics.add(upsample(detection.map, *frame.labels.shape), frame.labels)
            done += 1
        if progress is not None:
            progress(frame.index + 1, len(source))
    values = metrics.result().as_dict()
    pixel = _without_nan({name: values[name] for name in _ROAD_FIGURES})
    return {"data": source.description, "frames": done, "problems": source.problems, "pixel": pixel}


def _detections(
    detector: ClipWindowDetector, items: Iterable[T], read: Callable[[T], NDArray[np.uint8]], batch: int
) -> Iterator[tuple[T, Detection]]:
    """Detect in batches of items, whose images `read` returns."""
    remaining = iter(items)
    while part := list(islice(remaining, batch)):
        yield from zip(part, detector.detect([read(item) for item in part]), strict=True)


def _without_nan(values: Mapping[str, float | int]) -> Figures:
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _summary(results: Mapping[str, Figures]) -> dict[str, Any]:
    mean: dict[str, float | None] = {}
    left_out: dict[str, list[str]] = {}
    for figure in FIGURES:
        values = [value for result in results.values() if (value := result[figure]) is not None]
        mean[figure] = float(np.mean(values)) if values else None
        if len(values) < len(results):
            left_out[figure] = [name for name, result in results.items() if result[figure] is None]
    return {"mean": mean, "left_out": left_out}
