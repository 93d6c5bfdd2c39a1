"""The result of an evaluation: one summary for `result.json`, the per-frame records, and what the report draws."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from vl4ad_ros.evaluation.compare import frame_intervals
from vl4ad_ros.evaluation.component_metrics import summarise
from vl4ad_ros.evaluation.drives import Planner, drive_figures, follow_regions
from vl4ad_ros.evaluation.frames import fault_sentences
from vl4ad_ros.evaluation.histograms import COARSE_BINS, calibration, calibration_error, fold, region_overlap
from vl4ad_ros.evaluation.measure import Measurements
from vl4ad_ros.evaluation.objects import ObjectTrack, follow_objects, region_recall
from vl4ad_ros.evaluation.pixel_metrics import Curve, exact_result
from vl4ad_ros.io.checked import read_json, validate
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import finite, read_bytes, read_npz, write_bytes, write_json, write_text

FORMAT = "vl4ad_ros.evaluation/1"
RESULT, FRAMES, HISTOGRAMS = "result.json", "frames.jsonl", "histograms.npz"
CURVE_POINTS = 400


class _Object(BaseModel):
    siou: float


class _Segment(BaseModel):
    precision: float | None = None


class _Record(BaseModel):
    """What comparing needs of a record; `objects` are there where the frame has ground truth."""

    name: str
    objects: list[_Object] = []
    segments: list[_Segment] = []


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Everything that an evaluation found."""

    summary: dict[str, Any]  # the content of `result.json` (docs/evaluate.md lists its keys)
    records: list[dict[str, Any]]  # per-frame records, in order
    # uint32 [F, 2, 1024] per frame: negatives and positives by coarse bin of uncertainty.
    histograms: NDArray[np.uint32]
    calibration: NDArray[np.float64]  # float64 [3, 15], see `histograms.calibration`, over all labelled frames
    curve: Curve  # counts over about 400 thresholds


def percentiles(values: Iterable[float]) -> dict[str, float | int | None]:
    """Return count, mean, p50, p90, p99 and max of some numbers; None where there are none."""
    array = np.array([v for v in values if math.isfinite(v)], np.float64)
    if not len(array):
        return {"count": 0, "mean": None, "p50": None, "p90": None, "p99": None, "max": None}
    named = zip(("p50", "p90", "p99"), np.percentile(array, [50, 90, 99]).tolist(), strict=True)
    return {"count": len(array), "mean": float(array.mean()), **dict(named), "max": float(array.max())}


def summarise_run(
    found: Measurements,
    about: dict[str, Any],
    is_drive: bool,
    live: dict[str, Any] | None = None,
    planner: Planner | None = None,
) -> EvaluationResult:
    """Turn what was measured on all frames into a result.

    `about` (`about_run`) is merged into the summary; objects are followed on a drive; `live` is of `live_statistics`.
    """
    records = [found.records[index] for index in sorted(found.records)]
    if is_drive:
        follow_regions(records, planner or Planner())
    left_out = sum(fault.left_out for fault in found.faults.values())
    calibrated = calibration(fold(found.pixels.counts))
    stages = sorted({stage for r in records for stage in r["latency_ms"]})
    summary: dict[str, Any] = {
        "format": FORMAT,
        **about,
        **_figures(found, is_drive, planner),
        "latency_ms": {stage: percentiles(r["latency_ms"].get(stage, math.nan) for r in records) for stage in stages},
        "live": live,
        "problems": found.problems + fault_sentences(found.faults, len(records) + left_out),
    }
    if found.groups is not None:
        parts = [(about, found.of_group(place)) for place, about in enumerate(found.groups.about)]
        groups = [{**about, **_figures(part, is_drive, planner)} for about, part in parts if part.records]
        summary[found.groups.kind] = groups
        if found.groups.kind == "intervals":  # Only frames of one state have figures in common.
            summary |= dict.fromkeys(groups[0].keys() - {"from_ns", "to_ns", "detector", "frames"})
            if found.groups.thresholds:
                summary["settings"] = {**summary["settings"], "threshold": None}
    indices = sorted(found.histograms)
    stacked = np.array([found.histograms[i] for i in indices], np.uint32)
    curve = found.pixels.curve().thin(CURVE_POINTS)
    return EvaluationResult(finite(summary), records, stacked, calibrated, curve)


def _figures(found: Measurements, is_drive: bool, planner: Planner | None) -> dict[str, Any]:
    """Return the figures of frames."""
    records = [found.records[index] for index in sorted(found.records)]
    labelled = [r for r in records if "objects" in r]
    counts = fold(found.pixels.counts)
    tracks = follow_objects(labelled) if is_drive else []
    return {
        "frames": {
            "evaluated": len(records),
            "labelled": len(labelled),
            "with_anomalies": sum(r["positives"] > 0 for r in labelled),
        },
        "pixel": _pixel_figures(found) if labelled else None,
        "image": _image_figures(labelled) if labelled else None,
        "pro": region_overlap(found.regions, counts[0]) if labelled and found.with_regions else None,
        "components": _components(labelled) if labelled else None,
        "calibration_error": calibration_error(calibration(counts)) if labelled else None,
        "regions": _regions(labelled, found) if labelled else None,
        "objects": _objects(tracks) if labelled and is_drive else None,
        "drive": drive_figures(records, tracks, planner) if is_drive else None,
        "alarms": _alarms(records),
    }


def _pixel_figures(found: Measurements) -> dict[str, Any]:
    """Return the pixel metrics, with the intervals of some over the frames."""
    figures = asdict(found.pixels.result())
    labelled = [found.histograms[index] for index, record in sorted(found.records.items()) if "objects" in record]
    return {**figures, "interval_95": frame_intervals(figures, np.array(labelled))}


def _regions(records: Sequence[dict[str, Any]], found: Measurements) -> dict[str, Any]:
    """Return the objects by size and distance, and where asked for by height, with the pixel metrics of each height."""
    groups = region_recall(records, found.per_size)
    for group, metrics in zip(groups.get("by_height", []), found.sizes, strict=True):
        pixel = metrics.result()
        group |= {"ap": pixel.ap, "fpr95": pixel.fpr95}
    return groups


def _image_figures(records: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return how well the image scores separate frames with anomalies from others; None if one kind is missing."""
    scores = np.array([record["image_score"] for record in records], np.float64)
    figures = exact_result(scores, np.array([record["positives"] > 0 for record in records], np.uint8))
    if not (figures.positives and figures.negatives):
        return None
    return {"auroc": figures.auroc, "ap": figures.ap, "best_f1": figures.best_f1}


def _components(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return summarise(
        [item["siou"] for record in records for item in record["objects"]],
        [item["precision"] for record in records for item in record["segments"]],
    )


def _objects(everything: Sequence[ObjectTrack]) -> dict[str, Any]:
    tracks = [t for t in everything if not t.is_glimpse]
    delays = [t.delay_s for t in tracks if t.delay_s is not None]
    return {
        "glimpses": len(everything) - len(tracks),
        "count": len(tracks),
        "detected": len(delays),
        "delay_s": percentiles(delays),
        "tracks": [asdict(t) for t in tracks],
    }


def _alarms(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    alarmed = sum(bool(r["segments"]) for r in records)
    return {
        "frames_with_alarm": alarmed,
        "share_of_frames": alarmed / len(records) if records else None,
        "segments_per_frame": sum(len(r["segments"]) for r in records) / len(records) if records else None,
        "mask_share": percentiles(r["mask_share"] for r in records),
    }


def write_result(folder: Path, result: EvaluationResult) -> None:
    """Write `result.json`, `frames.jsonl` and `histograms.npz` (for `vl4ad evaluate compare`) into a folder."""
    # First gone, and written last: where it is, the other files are whole and belong to it.
    (folder / RESULT).unlink(missing_ok=True)
    write_text(folder / FRAMES, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in result.records))
    stored = io.BytesIO()
    np.savez_compressed(stored, histograms=result.histograms)
    write_bytes(folder / HISTOGRAMS, stored.getvalue())
    write_json(folder / RESULT, result.summary)


def read_result(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]], NDArray[np.uint32]]:
    """Read what `write_result` wrote: the summary, the records and the histograms."""
    summary = read_json(folder / RESULT)
    if not isinstance(summary, dict) or summary.get("format") != FORMAT:
        raise Vl4adError(f"{folder / RESULT} is no result of 'vl4ad evaluate' (expected format {FORMAT}).")
    lacking = next((key for key in ("source", "detector", "settings") if not isinstance(summary.get(key), dict)), None)
    if lacking is not None:
        raise Vl4adError(f"{folder / RESULT} lacks '{lacking}'; evaluate again.")
    histograms = read_npz(folder / HISTOGRAMS, ["histograms"])["histograms"]
    lines = read_bytes(folder / FRAMES).splitlines()
    records = [_record(line, f"{folder / FRAMES}, line {number}") for number, line in enumerate(lines, start=1)]
    if histograms.shape[1:] != (2, COARSE_BINS) or len(histograms) != len(records):
        raise Vl4adError(f"{folder}: {len(records)} records, but {len(histograms)} histograms; evaluate again.")
    return summary, records, histograms


def _record(line: bytes, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Vl4adError(f"{place}: not JSON ({error}).") from error
    validate(_Record, record, place)
    return dict(record)
