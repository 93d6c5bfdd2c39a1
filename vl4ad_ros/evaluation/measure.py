"""What is measured on frames: one record per frame, and the sums over all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation import histograms
from vl4ad_ros.evaluation.component_metrics import FrameComponents, Track, match_components
from vl4ad_ros.evaluation.frames import Fault, Frame
from vl4ad_ros.evaluation.groups import Groups
from vl4ad_ros.evaluation.objects import HEIGHT_EDGES, components_on_drive, labels_by_height
from vl4ad_ros.evaluation.pixel_metrics import PixelMetrics, count_levels
from vl4ad_ros.evaluation.predictor import Prediction
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import finite
from vl4ad_ros.runtime.frames import anomaly_mask


@dataclass
class Measurements:
    """The records of a set of frames and the sums over them; those of parts can be merged in any order."""

    track: Track  # smallest component sizes
    threshold: float  # at or above it a pixel counts as anomalous
    with_regions: bool = False  # whether the per-region overlap is measured, as for product inspection
    per_size: bool = False  # whether pixels are counted by the height of their objects, too
    pixels: PixelMetrics = field(default_factory=PixelMetrics)  # counts of all labelled frames' pixels
    # Frame index -> record: finite numbers, lists, text and None only.
    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    # Frame index -> uint32 [2, 1024], negatives and positives.
    histograms: dict[int, NDArray[np.uint32]] = field(default_factory=dict)
    # Level -> labelled regions, see `histograms.count_regions`.
    regions: NDArray[np.float64] = field(default_factory=lambda: np.zeros(histograms.LEVELS))
    # For each group of `objects.HEIGHT_EDGES` the pixels without the objects of other heights.
    sizes: list[PixelMetrics] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # sentences on what could not be used
    faults: dict[int, Fault] = field(default_factory=dict)  # frame index -> what of it could not be read
    groups: Groups | None = None  # frames with figures of their own
    group_pixels: dict[int, PixelMetrics] = field(default_factory=dict)  # place of a group -> its frames' pixels

    def __post_init__(self) -> None:
        if self.per_size:
            self.sizes = [PixelMetrics() for _ in HEIGHT_EDGES[1:]]

    def add(self, frame: Frame, prediction: Prediction) -> None:
        """Measure a frame."""
        uncertainty = prediction.uncertainty
        labels = np.zeros(uncertainty.shape, np.uint8) if frame.labels is None else frame.labels
        if labels.shape != uncertainty.shape:
            raise Vl4adError(
                f"Frame {frame.name}: its labels are {labels.shape}, its uncertainty map {uncertainty.shape}."
            )
        fine = count_levels(uncertainty, labels)
        counts = histograms.fold(fine)
        group = None if self.groups is None else self.groups.of_frame.get(frame.index)
        threshold = self.threshold
        if self.groups is not None and self.groups.thresholds and group is not None:
            threshold = self.groups.thresholds[group]
        mask = anomaly_mask(uncertainty, threshold)
        found = match_components(mask, labels, self.track)
        record = _of_any_frame(frame, prediction, counts, mask, found) | {"threshold": threshold}
        if frame.labels is not None:
            record |= _of_labelled_frame(counts, found)
            self.pixels.counts += fine
            if group is not None:
                self.group_pixels.setdefault(group, PixelMetrics()).counts += fine
            if self.per_size:
                for metrics, of_size in zip(self.sizes, labels_by_height(labels), strict=True):
                    metrics.add(uncertainty, of_size)
            if self.with_regions:
                self.regions += histograms.count_regions(uncertainty, labels)
        if frame.stamp_ns is not None:
            record |= components_on_drive(mask, uncertainty, frame.labels)
        record = finite(record)
        self.records[frame.index], self.histograms[frame.index] = record, histograms.coarse(counts)

    def merge(self, other: Measurements) -> None:
        """Take over what another part has measured."""
        self.pixels.counts += other.pixels.counts
        for group, pixels in other.group_pixels.items():
            self.group_pixels.setdefault(group, PixelMetrics()).counts += pixels.counts
        for metrics, more in zip(self.sizes, other.sizes, strict=True):
            metrics.counts += more.counts
        self.records |= other.records
        self.histograms |= other.histograms
        self.regions += other.regions
        self.problems += [problem for problem in other.problems if problem not in self.problems]
        self.faults |= other.faults

    def of_group(self, place: int) -> Measurements:
        """Return what was measured on the frames of a group, without regions and sizes."""
        members = [index for index in self.records if self.groups and self.groups.of_frame.get(index) == place]
        return Measurements(
            self.track,
            self.threshold,
            pixels=self.group_pixels.get(place, PixelMetrics()),
            records={index: self.records[index] for index in members},
            histograms={index: self.histograms[index] for index in members},
        )


def _of_any_frame(
    frame: Frame, prediction: Prediction, counts: NDArray[np.int64], mask: NDArray[np.uint8], found: FrameComponents
) -> dict[str, Any]:
    labelled = frame.labels is not None
    mean, p99 = histograms.mean_and_p99(counts)
    return {
        "index": frame.index,
        "name": frame.name,
        "stamp_ns": frame.stamp_ns,
        "drive": frame.drive,
        "height": mask.shape[0],
        "width": mask.shape[1],
        "latency_ms": {stage: round(value, 3) for stage, value in prediction.latency_ms.items()},
        "image_score": prediction.image_score,
        "uncertainty_mean": mean,
        "uncertainty_p99": p99,
        "uncertainty_max": float(prediction.uncertainty.max()),
        "mask_share": float(np.count_nonzero(mask) / mask.size),
        "segments": [
            {"size": size, "precision": precision if labelled else None}
            for size, precision in zip(found.predicted_size.tolist(), found.precision.tolist(), strict=True)
        ],
    }


def _of_labelled_frame(counts: NDArray[np.int64], found: FrameComponents) -> dict[str, Any]:
    negative, positive = counts
    columns = (found.siou, found.recall, found.size, found.box)
    return {
        "positives": int(positive.sum()),
        "negatives": int(negative.sum()),
        "ap": float(histograms.average_precision(negative, positive)),
        "fpr95": float(histograms.fpr_at_95(negative, positive)),
        "objects": [
            dict(zip(("siou", "recall", "size", "box"), values, strict=True))
            for values in zip(*(column.tolist() for column in columns), strict=True)
        ],
    }
