"""Evaluating the method on product inspection data with CLIP's image tower."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from vl4ad_ros.random_word.clip_detector import ClipWindowDetector
from vl4ad_ros.random_word.gap import Reference
from vl4ad_ros.random_word.product_metrics import ProductMetrics
from vl4ad_ros.random_word.products import ProductCategory

Progress = Callable[[str, int, int], None]
FIGURES = ("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pro")


def evaluate_products(
    detector: ClipWindowDetector,
    categories: Sequence[ProductCategory],
    side: int = 256,
    batch: int = 4,
    gap: Reference | None = None,
    gap_images: int = 16,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score every test picture and return the figures by category and their mean.

    Args:
        detector: The detector.
        categories: What to evaluate.
        side: Pictures are resized to side x side before they are scored, masks alike, as is usual for these data sets.
        batch: Pictures at a time.
        gap: Close the gap between image and text embeddings with the category's first training pictures, which are
            all normal: no label and no defect is seen. None leaves it open.
        gap_images: How many of them.
        progress: Called with (category, pictures done, pictures in all).

    Returns:
        `categories`: name -> figures, None where a category lacks the pictures for one (no defect, say); `mean`: their
        means over the categories that have them; `left_out`: figure -> the categories that do not.
    """

    def sized(image: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), dtype=np.uint8)

    results: dict[str, dict[str, float | int | None]] = {}
    for category in categories:
        ready = detector
        if gap is not None and category.train:
            seen = [sized(picture.read()) for picture in category.train[:gap_images]]
            ready = detector.with_gap_closed(seen, gap, batch)
        metrics = ProductMetrics()
        for start in range(0, len(category.test), batch):
            pictures = category.test[start : start + batch]
            detections = ready.detect([sized(picture.read()) for picture in pictures])
            for picture, detection in zip(pictures, detections, strict=True):
                mask = picture.read_mask(side, side)
                metrics.add(detection.score, detection.map, mask, picture.anomalous)
            if progress is not None:
                progress(category.name, min(start + batch, len(category.test)), len(category.test))
        figures = metrics.result().as_dict()
        results[category.name] = {key: None if math.isnan(value) else value for key, value in figures.items()}
    return {"categories": results, **_summary(results)}


def _summary(results: Mapping[str, Mapping[str, float | int | None]]) -> dict[str, Any]:
    mean: dict[str, float | None] = {}
    left_out: dict[str, list[str]] = {}
    for figure in FIGURES:
        values = {name: result[figure] for name, result in results.items()}
        there = [value for value in values.values() if value is not None]
        mean[figure] = float(np.mean(there)) if there else None
        if len(there) < len(values):
            left_out[figure] = [name for name, value in values.items() if value is None]
    return {"mean": mean, "left_out": left_out}
