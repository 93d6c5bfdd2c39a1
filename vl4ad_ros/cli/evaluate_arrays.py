"""`vl4ad evaluate arrays`: metrics of anybody's stored score maps."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vl4ad_ros.cli.options import Json
from vl4ad_ros.evaluation.compare import frame_intervals
from vl4ad_ros.evaluation.component_metrics import TRACKS, match_components, summarise
from vl4ad_ros.evaluation.histograms import coarse_by_rank
from vl4ad_ros.evaluation.pixel_metrics import exact_result
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import finite, read_npz


def arrays(
    frames: Path,
    /,
    *,
    threshold: float | Literal["best"] = "best",
    track: Literal["anomaly", "obstacle"] = "anomaly",
    json_output: Json = False,
) -> None:
    """Pixel and component metrics of score maps in an .npz file (arrays `labels` and `scores`, NxHxW).

    Args:
        frames: NPZ file; labels: 1 anomaly, 0 none, 255 void; scores: any numbers.
        threshold: Scores above it are anomalies (components); best: that of the best F1.
        track: Component sizes: anomaly (500, 100) or obstacle (50, 10).
        json_output: Print one JSON object.
    """
    result = finite(array_metrics(frames, threshold, track))
    if not result["positives"]:
        print("note: no pixel is labelled as an anomaly (1): there is no AP and no best F1.", file=sys.stderr)
        if threshold == "best":
            print("note: the components need a threshold then; name one with --threshold.", file=sys.stderr)
    if json_output:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:18} {' '.join(map(str, value)) if isinstance(value, list) else value}")


def array_metrics(path: Path, threshold: float | Literal["best"], track: str) -> dict[str, Any]:
    """Return the metrics of a file of score maps."""
    if threshold != "best" and not np.isfinite(threshold):
        raise Vl4adError(f"--threshold must be a finite number, got {threshold}.")
    labels, scores = read_arrays(path)
    pixel: dict[str, Any] = asdict(exact_result(scores, labels))
    # The benchmark's evaluator takes scores above its threshold; the best F1's own score counts as above.
    best = scores.dtype.type(pixel["best_f1_threshold"]) if pixel["positives"] else np.float32("nan")
    limit = _below(best) if threshold == "best" else threshold
    source = "best_f1" if threshold == "best" else "given"
    found = [
        match_components(frame_scores > limit, frame_labels, TRACKS[track])
        for frame_scores, frame_labels in zip(scores, labels, strict=True)
    ]
    components = summarise(*(np.concatenate([getattr(f, name) for f in found]) for name in ("siou", "precision")))
    pixel["interval_95"] = frame_intervals(pixel, coarse_by_rank(scores, labels))
    return {"frames": len(labels), **pixel, "track": track, "threshold": limit, "threshold_from": source, **components}


def _below(score: Any) -> float:
    """Return the next number below a score, in the score's own type."""
    if np.issubdtype(score.dtype, np.integer):
        return int(score) - 1
    return float(np.nextafter(score, -np.inf))


def read_arrays(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Read `labels` and `scores`."""
    stored = read_npz(path, ["labels", "scores"])
    labels, scores = stored["labels"], stored["scores"]
    if labels.ndim != 3 or labels.shape != scores.shape or not labels.size:
        raise Vl4adError(f"{path}: labels and scores must both be NxHxW, got {labels.shape} and {scores.shape}.")
    if not np.issubdtype(labels.dtype, np.integer) and labels.dtype != np.bool_:
        raise Vl4adError(f"{path}: labels must be whole numbers (0, 1, 255), got {labels.dtype}.")
    if not np.issubdtype(scores.dtype, np.floating) and not np.issubdtype(scores.dtype, np.integer):
        raise Vl4adError(f"{path}: scores must be numbers, got {scores.dtype}.")
    if not np.isin(labels, (0, 1, 255)).all():
        raise Vl4adError(f"{path}: labels must be 0, 1 or 255, found {np.setdiff1d(labels, (0, 1, 255))[:5].tolist()}.")
    # In float16 a threshold would be rounded before it is compared.
    return labels.astype(np.uint8), scores.astype(np.float32) if scores.dtype == np.float16 else scores
