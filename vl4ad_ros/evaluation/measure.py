"""What is measured on frames: one record per frame, and the sums over all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation import histograms
from vl4ad_ros.evaluation.component_metrics import FrameComponents, Track, match_components
from vl4ad_ros.evaluation.frames import Fault, Frame
from vl4ad_ros.evaluation.pictures import Gallery, thumbnail
from vl4ad_ros.evaluation.pixel_metrics import PixelMetrics
from vl4ad_ros.evaluation.predictor import Prediction
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.frames import anomaly_mask


@dataclass
class Measurements:
    """The records of a set of frames and the sums over them; those of parts can be merged in any order.

    Attributes:
        track: Smallest component sizes.
        threshold: At or above it a pixel counts as anomalous.
        with_regions: Whether the per-region overlap is measured, as for product inspection.
        pixels: Scores and labels of all labelled frames.
        records: Frame index -> record: finite numbers, lists, text and None only.
        histograms: Frame index -> uint32 [2, 1024], negatives and positives.
        calibration: Frame index -> float64 [3, 15].
        regions: Level -> labelled regions, see `histograms.count_regions`.
        negatives: Level -> pixels labelled 0, for the per-region overlap.
        gallery: The chosen pictures.
        problems: Sentences on what could not be used.
        faults: Frame index -> what of it could not be read.
    """

    track: Track
    threshold: float
    with_regions: bool = False
    pixels: PixelMetrics = field(default_factory=PixelMetrics)
    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    histograms: dict[int, NDArray[np.uint32]] = field(default_factory=dict)
    calibration: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    regions: NDArray[np.float64] = field(default_factory=lambda: np.zeros(histograms.LEVELS))
    negatives: NDArray[np.int64] = field(default_factory=lambda: np.zeros(histograms.LEVELS, np.int64))
    gallery: Gallery = field(default_factory=Gallery)
    problems: list[str] = field(default_factory=list)
    faults: dict[int, Fault] = field(default_factory=dict)

    def add(self, frame: Frame, prediction: Prediction, with_thumbnail: bool = False) -> None:
        """Measure a frame.

        Raises:
            Vl4adError: If the labels have another size than the map.
        """
        uncertainty, labels, index = prediction.uncertainty, frame.labels, frame.index
        if labels is not None and labels.shape != uncertainty.shape:
            raise Vl4adError(
                f"Frame {frame.name}: its labels are {labels.shape}, its uncertainty map {uncertainty.shape}."
            )
        counts = histograms.count_levels(uncertainty, labels)
        mask = anomaly_mask(uncertainty, self.threshold)
        found = match_components(mask, np.zeros(mask.shape, np.uint8) if labels is None else labels, self.track)
        record = _of_any_frame(frame, prediction, counts, mask, found)
        if labels is not None:
            record |= _of_labelled_frame(counts, found)
            self.pixels.add(uncertainty, labels)
            self.calibration[index] = histograms.calibration(counts)
            if self.with_regions:
                self.regions += histograms.count_regions(uncertainty, labels)
                self.negatives += counts[0]
        self.records[index], self.histograms[index] = record, histograms.coarse(counts)
        self.gallery.offer(record, frame, uncertainty, mask)
        if with_thumbnail:
            self.gallery.thumbnails[index] = thumbnail(frame, uncertainty, mask)

    def merge(self, other: Measurements) -> None:
        """Take over what another part has measured."""
        self.pixels.merge(other.pixels)
        self.records |= other.records
        self.histograms |= other.histograms
        self.calibration |= other.calibration
        self.regions += other.regions
        self.negatives += other.negatives
        self.gallery.merge(other.gallery)
        self.problems += [problem for problem in other.problems if problem not in self.problems]
        self.faults |= other.faults

    def ordered(self) -> list[dict[str, Any]]:
        """Return the records in the order of the frames."""
        return [self.records[index] for index in sorted(self.records)]


def _of_any_frame(
    frame: Frame, prediction: Prediction, counts: NDArray[np.int64], mask: NDArray[np.uint8], found: FrameComponents
) -> dict[str, Any]:
    labelled = frame.labels is not None
    return {
        "index": frame.index,
        "name": frame.name,
        "stamp_ns": frame.stamp_ns,
        "drive": frame.drive,
        "height": int(mask.shape[0]),
        "width": int(mask.shape[1]),
        "latency_ms": {stage: round(value, 3) for stage, value in prediction.latency_ms.items()},
        "image_score": prediction.image_score,
        "uncertainty_mean": finite(histograms.mean(counts)),
        "uncertainty_p99": finite(histograms.quantile(counts, 0.99)),
        "uncertainty_max": float(prediction.uncertainty.max()),
        "mask_share": float(np.count_nonzero(mask) / mask.size),
        "segments": [
            {"size": int(s), "precision": float(p) if labelled else None}
            for s, p in zip(found.predicted_size, found.precision, strict=True)
        ],
    }


def _of_labelled_frame(counts: NDArray[np.int64], found: FrameComponents) -> dict[str, Any]:
    negative, positive = counts
    return {
        "positives": int(positive.sum()),
        "negatives": int(negative.sum()),
        "ap": finite(float(histograms.average_precision(negative, positive))),
        "fpr95": finite(float(histograms.fpr_at_95(negative, positive))),
        "objects": [
            {"siou": float(i), "recall": float(r), "size": int(s), "box": [int(v) for v in b]}
            for i, r, s, b in zip(found.siou, found.recall, found.size, found.box, strict=True)
        ],
    }


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
