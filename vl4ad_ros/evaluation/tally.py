"""What an evaluation has counted so far: parts of it can be made anywhere, stored, and merged in any order."""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.component_metrics import Track
from vl4ad_ros.evaluation.frames import Fault, Frame
from vl4ad_ros.evaluation.levels import CALIBRATION_BINS, COARSE_BINS
from vl4ad_ros.evaluation.measure import measure
from vl4ad_ros.evaluation.pictures import Gallery, thumbnail
from vl4ad_ros.evaluation.pixel_metrics import PixelMetrics
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.npy_files import read_npz
from vl4ad_ros.runtime.frames import anomaly_mask


@dataclass
class Tally:
    """The sums and the per-frame records of a set of frames.

    Attributes:
        pixels: Counts for the pixel metrics of all labelled frames.
        records: Frame index -> record (see `measure`).
        histograms: Frame index -> uint32 [2, 1024], negatives and positives.
        calibration: Frame index -> float64 [3, 15].
        gallery: The chosen pictures.
        problems: Sentences on what could not be used.
        faults: Frame index -> what of it could not be read.
    """

    pixels: PixelMetrics = field(default_factory=PixelMetrics)
    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    histograms: dict[int, NDArray[np.uint32]] = field(default_factory=dict)
    calibration: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    gallery: Gallery = field(default_factory=Gallery)
    problems: list[str] = field(default_factory=list)
    faults: dict[int, Fault] = field(default_factory=dict)

    def add(
        self, frame: Frame, uncertainty: NDArray[np.float32], threshold: float, track: Track, with_thumbnail: bool
    ) -> dict[str, Any]:
        """Measure a frame and count it in; return its record."""
        record, levels = measure(frame, uncertainty, threshold, track)
        if frame.labels is not None:
            self.pixels.add(uncertainty, frame.labels)
            self.calibration[frame.index] = levels.calibration()
        self.histograms[frame.index] = levels.coarse()
        self.records[frame.index] = record
        mask = anomaly_mask(uncertainty, threshold)
        self.gallery.offer(record, frame, uncertainty, mask)
        if with_thumbnail:
            self.gallery.thumbnails[frame.index] = thumbnail(frame, uncertainty, mask)
        return record

    def merge(self, other: Tally) -> None:
        """Count in what another part has seen."""
        self.pixels.merge(other.pixels)
        self.records |= other.records
        self.histograms |= other.histograms
        self.calibration |= other.calibration
        self.gallery.merge(other.gallery)
        self.problems += [problem for problem in other.problems if problem not in self.problems]
        self.faults |= other.faults

    def ordered(self) -> list[dict[str, Any]]:
        """Return the records in the order of the frames."""
        return [self.records[index] for index in sorted(self.records)]

    def save(self, path: Path) -> None:
        """Store everything in one file (NumPy arrays, no pickle); it appears complete or not at all."""
        indices = sorted(self.records)
        labelled = sorted(self.calibration)
        pictures = [(kind, *item) for kind, kept in self.gallery.pictures.items() for item in kept]
        pictures += [("thumbnail", 0.0, index, data) for index, data in sorted(self.gallery.thumbnails.items())]
        content: dict[str, Any] = {
            "records": _bytes(json.dumps(self.ordered()).encode()),
            "problems": _bytes(json.dumps(self.problems).encode()),
            "faults": _bytes(json.dumps([[i, *astuple(fault)] for i, fault in self.faults.items()]).encode()),
            "indices": np.array(indices, np.int64),
            "labelled": np.array(labelled, np.int64),
            "histograms": np.array([self.histograms[i] for i in indices], np.uint32).reshape(-1, 2, COARSE_BINS),
            "calibration": np.array([self.calibration[i] for i in labelled]).reshape(-1, 3, CALIBRATION_BINS),
            "picture_list": _bytes(json.dumps([[kind, rank, index] for kind, rank, index, _ in pictures]).encode()),
        }
        content |= {f"pixels_{name}": value for name, value in self.pixels.state().items()}
        content |= {f"picture_{number}": _bytes(data) for number, (*_, data) in enumerate(pictures)}
        temporary = path.with_name(f".{path.name}.part.npz")
        np.savez(temporary, **content)
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Tally:
        """Read what `save` stored.

        Raises:
            Vl4adError: If the file is damaged.
        """
        try:
            arrays = read_npz(path)
            tally = cls(PixelMetrics.from_state({k[7:]: v for k, v in arrays.items() if k.startswith("pixels_")}))
            tally.records = {record["index"]: record for record in json.loads(arrays["records"].tobytes())}
            tally.problems = json.loads(arrays["problems"].tobytes())
            tally.faults = {index: Fault(*values) for index, *values in json.loads(arrays["faults"].tobytes())}
            tally.histograms = dict(zip(arrays["indices"].tolist(), arrays["histograms"], strict=True))
            tally.calibration = dict(zip(arrays["labelled"].tolist(), arrays["calibration"], strict=True))
            for number, (kind, rank, index) in enumerate(json.loads(arrays["picture_list"].tobytes())):
                data = arrays[f"picture_{number}"].tobytes()
                if kind == "thumbnail":
                    tally.gallery.thumbnails[index] = data
                else:
                    tally.gallery.pictures.setdefault(kind, []).append((rank, index, data))
        except (Vl4adError, ValueError, KeyError, TypeError) as error:
            raise Vl4adError(f"{path}: not a stored part of an evaluation ({error}); delete it.") from error
        return tally


def _bytes(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, dtype=np.uint8)
