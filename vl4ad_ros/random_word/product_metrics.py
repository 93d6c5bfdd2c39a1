"""Metrics of product inspection: image AUROC, AP and F1-max, pixel AUROC, and PRO."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.pixel_metrics import PixelMetrics
from vl4ad_ros.io.errors import Vl4adError

FIGURES = ("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pro")
"""Figures of a category: AUROC, average precision and largest F1 of the images' scores, pixel AUROC, and PRO."""


class ProductMetrics:
    """The metrics of one category, collected image by image."""

    def __init__(self, fpr_limit: float = 0.3) -> None:
        """Start empty.

        Args:
            fpr_limit: Largest false-positive rate of PRO; 0.3 is what MVTec-AD's authors use.
        """
        self._limit = fpr_limit
        self._scores: list[float] = []
        self._labels: list[bool] = []
        self._pixels = PixelMetrics()
        self._normal: list[NDArray[np.float32]] = []
        self._regions: list[NDArray[np.float32]] = []

    def add(self, score: float, anomaly_map: NDArray[np.float32], mask: NDArray[np.uint8], anomalous: bool) -> None:
        """Add an image.

        Args:
            score: Of the image, higher = more anomalous.
            anomaly_map: float32 [H, W].
            mask: uint8 [H, W], 1 = defect.
            anomalous: Whether the image shows a defect.

        Raises:
            Vl4adError: If the sizes differ or the score is not a finite number.
        """
        if anomaly_map.shape != mask.shape or not np.isfinite(score):
            raise Vl4adError(
                f"Score {score} with a map {anomaly_map.shape} and a mask {mask.shape} cannot be evaluated."
            )
        self._scores.append(float(score))
        self._labels.append(anomalous)
        self._pixels.add(anomaly_map, mask)
        self._normal.append(anomaly_map[mask == 0])
        count, regions = cv2.connectedComponents(mask, connectivity=8)
        self._regions += [anomaly_map[regions == number] for number in range(1, count)]

    def result(self) -> dict[str, float | int]:
        """Return `FIGURES` (0..1, NaN where a kind of image or pixel is missing), `images` and `regions` (counts)."""
        images = PixelMetrics()
        images.add(np.asarray([self._scores], dtype=np.float32), np.asarray([self._labels], dtype=np.uint8))
        image = images.result()
        pro = per_region_overlap(self._normal, self._regions, self._limit)
        figures = (image.auroc, image.ap, image.best_f1, self._pixels.result().auroc, pro)
        counts = {"images": len(self._scores), "regions": len(self._regions)}
        return {**dict(zip(FIGURES, figures, strict=True)), **counts}


def per_region_overlap(
    normal: list[NDArray[np.float32]], regions: list[NDArray[np.float32]], fpr_limit: float = 0.3
) -> float:
    """Return PRO: the area under mean region recall over false-positive rate, up to a rate, divided by that rate.

    Definition: Bergmann et al., The MVTec Anomaly Detection Dataset (IJCV 2021), section 5. Exact: every distinct score
    is a threshold, ties go together, and the curve is cut at the limit by linear interpolation.

    Args:
        normal: Scores of the pixels without a defect, in parts.
        regions: Scores of the pixels of each region.
        fpr_limit: In (0, 1].

    Returns:
        In [0, 1]; NaN without normal pixels or regions.
    """
    negatives = sum(len(part) for part in normal)
    if not regions or not negatives:
        return float("nan")
    scores = np.concatenate([*normal, *regions])
    overlap = np.concatenate(
        [np.zeros(negatives), *(np.full(len(region), 1 / (len(region) * len(regions))) for region in regions)]
    )
    order = np.argsort(scores, kind="stable")[::-1]
    scores, overlap = scores[order], overlap[order]
    last = np.flatnonzero(np.append(np.diff(scores) != 0, True))
    recall = np.concatenate([[0.0], np.cumsum(overlap)[last]])
    fpr = np.concatenate([[0.0], np.cumsum(order < negatives)[last] / negatives])
    inside = np.count_nonzero(fpr <= fpr_limit)
    fpr_cut = np.append(fpr[:inside], fpr_limit)
    recall_cut = np.append(recall[:inside], np.interp(fpr_limit, fpr, recall))
    return float((np.diff(fpr_cut) * (recall_cut[1:] + recall_cut[:-1]) / 2).sum() / fpr_limit)
