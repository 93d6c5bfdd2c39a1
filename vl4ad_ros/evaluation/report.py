"""The report: one self-contained HTML file with figures, charts and pictures."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vl4ad_ros.evaluation.charts import Chart, Series, draw_charts
from vl4ad_ros.evaluation.result import EvaluationResult
from vl4ad_ros.io.files import write_text

WIDE = 9.0


def write_report(path: Path, result: EvaluationResult) -> None:
    """Write the report, an HTML file that needs no other file and no network."""
    # Every value is escaped; charts are ours and marked so.
    environment = Environment(
        loader=PackageLoader("vl4ad_ros.evaluation", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"percent": percent, "number": number, "data_uri": data_uri, "pretty": pretty}
    by_index = {record["index"]: record for record in result.records}
    kept = result.gallery.pictures
    page = environment.get_template("report.html.j2").render(
        s=result.summary,
        title=f"{result.summary['source'].get('name', 'frames')}: {result.summary['detector'].get('bundle', 'scores')}",
        headline=headline(result.summary),
        charts=charts(result),
        worst=[(by_index[index], data) for _, index, data in kept["worst"]],
        best=[(by_index[index], data) for _, index, data in kept["best"]],
        timeline=[(by_index[index], data) for index, data in sorted(result.gallery.thumbnails.items())],
        details={
            key: result.summary[key]
            for key in ("source", "detector", "settings", "versions", "hardware")
            if result.summary.get(key) is not None
        },
    )
    write_text(path, page)


def headline(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the figures that matter most as (name, text)."""
    figures: list[tuple[str, str]] = []
    pixel, objects, live, total = (summary[key] for key in ("pixel", "objects", "live", "latency_ms"))
    if pixel:
        figures += [(name, percent(pixel[key])) for name, key in (("AP", "ap"), ("FPR95", "fpr95"), ("AUROC", "auroc"))]
        figures.append(("component F1", percent(summary["components"]["f1_mean"])))
    if objects:
        figures.append(("objects detected", f"{objects['detected']} of {objects['count']}"))
    if not pixel:
        figures.append(("frames with an alarm", percent(summary["alarms"]["share_of_frames"])))
    if live:
        figures += [
            ("rate out", f"{number(live['rate_hz'])} / s"),
            ("latency p50 / p99", f"{number(live['latency_ms']['p50'])} / {number(live['latency_ms']['p99'])} ms"),
            ("frames dropped", f"{live['dropped']} of {live['sent']}"),
        ]
    elif total.get("total"):
        total = total["total"]
        figures.append(("computing p50 / p99", f"{number(total['p50'])} / {number(total['p99'])} ms"))
    return figures


def charts(result: EvaluationResult) -> dict[str, Markup]:
    """Return the charts that the result allows, by name."""
    # The text in them is escaped.
    drawn = {name: Markup(draw_charts([chart])) for name, chart in _of_pixels(result).items()}
    return drawn | {name: Markup(draw_charts([chart], WIDE)) for name, chart in _over_frames(result.records).items()}


def _of_pixels(result: EvaluationResult) -> dict[str, Chart]:
    tp, fp = result.curve.tp, result.curve.fp
    if not (result.summary["pixel"] and result.summary["pixel"]["positives"]):
        return {}
    unit = (0.0, 1.0)
    recall, rate = (tp / tp[-1]).tolist(), (fp / max(fp[-1], 1)).tolist()
    precision = Series("", recall, (tp / (tp + fp)).tolist())
    roc = [Series("", rate, recall), Series("", [0, 1], [0.95, 0.95], dashed=True)]
    pixels, anomalous, uncertainty = result.calibration[:, result.calibration[0] > 0]
    shares = Series("", (uncertainty / pixels).tolist(), (anomalous / pixels).tolist(), dots=True)
    diagonal = Series("", [0, 1], [0, 1], dashed=True)
    return {
        "Precision and recall": Chart([precision], "recall", "precision", unit, unit),
        "ROC": Chart(roc, "false-positive rate", "true-positive rate", unit, unit),
        "Calibration": Chart([shares, diagonal], "mean uncertainty", "share of anomalous pixels", unit, unit),
    }


def _over_frames(records: list[dict[str, Any]]) -> dict[str, Chart]:
    if len(records) < 2:
        return {}
    times, label = _times(records)
    lines = [Series("mask, share of frame", times, [r["mask_share"] for r in records])]
    if any(r.get("ap") is not None for r in records):
        lines.append(Series("AP of the frame", times, [r.get("ap") for r in records]))
    found = {"Over the frames": Chart(lines, label, "", y_range=(0.0, 1.0))}
    total = [r["latency_ms"].get("total") for r in records]
    if any(value is not None for value in total):
        found["Latency"] = Chart([Series("", times, total)], label, "ms")
    return found


def _times(records: list[dict[str, Any]]) -> tuple[list[float], str]:
    stamps = [r["stamp_ns"] for r in records]
    if len({r["drive"] for r in records}) == 1 and all(stamp is not None for stamp in stamps):
        return ((np.array(stamps, np.int64) - stamps[0]) / 1e9).tolist(), "seconds"
    return [float(r["index"]) for r in records], "frame"


def data_uri(jpeg: bytes) -> Markup:
    """Return a JPEG as a data URI."""
    return Markup("data:image/jpeg;base64,") + base64.b64encode(jpeg).decode()


def percent(share: float | None) -> str:
    """Return a share as text in percent."""
    return "–" if share is None else f"{100 * share:.1f} %"


def number(value: float | None) -> str:
    """Return a number as short text."""
    return "–" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def pretty(value: Any) -> str:
    """Return nested data as indented JSON."""
    return value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)
