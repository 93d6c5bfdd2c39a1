"""The report: one self-contained HTML file with figures, charts and pictures."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vl4ad_ros.evaluation.charts import WIDTH, Chart, Series, draw_charts
from vl4ad_ros.evaluation.result import EvaluationResult

WIDE = 9.0


def write_report(path: Path, result: EvaluationResult) -> None:
    """Write the report; it needs no other file and no network.

    Args:
        path: The HTML file; its folder is made.
        result: What to report.
    """
    # Every value is escaped; charts are ours and marked so.
    environment = Environment(
        loader=PackageLoader("vl4ad_ros.evaluation", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"percent": percent, "number": number, "data_uri": data_uri, "pretty": pretty}
    by_index = {record["index"]: record for record in result.records}
    page = environment.get_template("report.html.j2").render(
        s=result.summary,
        title=title(result.summary),
        headline=headline(result.summary),
        charts=charts(result),
        worst=pictures(result, "worst", by_index),
        best=pictures(result, "best", by_index),
        timeline=[(by_index[i], data) for i, data in sorted(result.gallery.thumbnails.items()) if i in by_index],
        details={
            key: result.summary[key]
            for key in ("source", "detector", "settings", "versions", "hardware")
            if result.summary.get(key) is not None
        },
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def title(summary: dict[str, Any]) -> str:
    """Return the report's title: what was evaluated with what."""
    return f"{summary['source'].get('name', 'frames')}: {summary['detector'].get('bundle', 'scores')}"


def headline(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the figures that matter most as (name, text)."""
    figures: list[tuple[str, str]] = []
    if summary["pixel"]:
        figures += [
            (name, percent(summary["pixel"][key]))
            for name, key in (("AP", "ap"), ("FPR95", "fpr95"), ("AUROC", "auroc"))
        ]
        figures.append(("component F1", percent(summary["components"]["f1_mean"])))
    if summary["objects"]:
        figures.append(("objects detected", f"{summary['objects']['detected']} of {summary['objects']['count']}"))
    if not summary["pixel"]:
        figures.append(("frames with an alarm", percent(summary["alarms"]["share_of_frames"])))
    live = summary["live"]
    if live:
        figures += [
            ("rate out", f"{number(live['rate_hz'])} / s"),
            ("latency p50 / p99", f"{number(live['latency_ms']['p50'])} / {number(live['latency_ms']['p99'])} ms"),
            ("frames dropped", f"{live['dropped']} of {live['sent']}"),
        ]
    elif summary["latency_ms"].get("total"):
        total = summary["latency_ms"]["total"]
        figures.append(("computing p50 / p99", f"{number(total['p50'])} / {number(total['p99'])} ms"))
    return figures


def charts(result: EvaluationResult) -> dict[str, Markup]:
    """Return the charts that the result allows, by name."""
    wanted: dict[str, Chart] = {}
    records = result.records
    unit = (0.0, 1.0)
    diagonal = Series("", [0, 1], [0, 1], dashed=True)
    if result.summary["pixel"] and result.summary["pixel"]["positives"] and len(result.curve.tp):
        tp, fp = result.curve.tp, result.curve.fp
        recall, rate = (tp / tp[-1]).tolist(), (fp / max(fp[-1], 1)).tolist()
        precision = Series("", recall, (tp / (tp + fp)).tolist())
        wanted["Precision and recall"] = Chart([precision], "recall", "precision", unit, unit)
        roc = [Series("", rate, recall), Series("", [0, 1], [0.95, 0.95], dashed=True)]
        wanted["ROC"] = Chart(roc, "false-positive rate", "true-positive rate", unit, unit)
        pixels, anomalous, uncertainty = result.calibration[:, result.calibration[0] > 0]
        shares = Series("", (uncertainty / pixels).tolist(), (anomalous / pixels).tolist(), dots=True)
        wanted["Calibration"] = Chart([shares, diagonal], "mean uncertainty", "share of anomalous pixels", unit, unit)
    times, label = _times(records)
    if len(records) > 1:
        lines = [Series("mask, share of frame", times, [r["mask_share"] for r in records])]
        if any(r.get("ap") is not None for r in records):
            lines.append(Series("AP of the frame", times, [r.get("ap") for r in records]))
        wanted["Over the frames"] = Chart(lines, label, "", y_range=unit)
        total = [r["latency_ms"].get("total", math.nan) for r in records]
        if any(math.isfinite(v) for v in total):
            wanted["Latency"] = Chart([Series("", times, total)], label, "ms")
    # The text in it is escaped.
    return {
        name: Markup(draw_charts([chart], WIDE if name in ("Over the frames", "Latency") else WIDTH))
        for name, chart in wanted.items()
    }


def _times(records: list[dict[str, Any]]) -> tuple[list[float], str]:
    stamps = [r["stamp_ns"] for r in records]
    if len({r["drive"] for r in records}) == 1 and all(stamp is not None for stamp in stamps):
        return ((np.array(stamps, np.int64) - stamps[0]) / 1e9).tolist(), "seconds"
    return [float(r["index"]) for r in records], "frame"


def pictures(
    result: EvaluationResult, kind: str, by_index: dict[int, dict[str, Any]]
) -> list[tuple[dict[str, Any], bytes]]:
    """Return the chosen pictures of a kind with their frames' records."""
    return [(by_index[i], data) for _, i, data in result.gallery.pictures.get(kind, []) if i in by_index]


def data_uri(jpeg: bytes) -> Markup:
    """Return a JPEG as a data URI."""
    return Markup("data:image/jpeg;base64,") + base64.b64encode(jpeg).decode()


def percent(share: float | None) -> str:
    """Return a share as text in percent."""
    return "–" if share is None or not math.isfinite(share) else f"{100 * share:.1f} %"


def number(value: float | None) -> str:
    """Return a number as short text."""
    return "–" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def pretty(value: Any) -> str:
    """Return nested data as indented JSON."""
    return value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)
