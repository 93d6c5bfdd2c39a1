"""The report: one self-contained HTML file with figures, charts and pictures."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vl4ad_ros.evaluation.charts import GRID, INK, PAPER, Chart, Series, draw_charts
from vl4ad_ros.evaluation.pictures import Shot, ranked_frames
from vl4ad_ros.evaluation.result import EvaluationResult
from vl4ad_ros.io.files import write_text

WIDE = 9.0
# So many have pictures, those seen longest; all are on the timeline.
PICTURED = {"objects": 40, "alarms": 12}


def chosen_pictures(result: EvaluationResult) -> list[Shot]:
    """Return the pictures that the report of a result shows."""
    ranked = ranked_frames(result.records)
    shots = ranked["worst"] + ranked["best"]
    for card in _cards(result.summary, "objects") + _cards(result.summary, "alarms"):
        shots += [shot for _, shot in card["shots"]]
    return list(dict.fromkeys(shots))


def write_report(path: Path, result: EvaluationResult, pictures: dict[Shot, bytes]) -> None:
    """Write the report, an HTML file that needs no other file and no network."""
    # Every value is escaped; charts are ours and marked so.
    environment = Environment(
        loader=PackageLoader("vl4ad_ros.evaluation", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    filters = (percent, in_percent, number, data_uri, pretty)
    environment.filters |= {function.__name__: function for function in filters}
    summary = result.summary
    objects = _cards(summary, "objects")
    page = environment.get_template("report.html.j2").render(
        s=summary,
        title=f"{summary['source'].get('name', 'frames')}: {summary['detector'].get('bundle', 'scores')}",
        words=drive_in_words(summary),
        headline=headline(summary),
        charts=charts(result),
        groups=grouped(summary),
        records={record["index"]: record for record in result.records},
        ranked=ranked_frames(result.records),
        pictures=pictures,
        lengths=summary["drive"]["lengths_s"] if summary["drive"] else {},
        objects=objects,
        found=[card for card in objects if card["first_detected_s"] is not None],
        missed=[card for card in objects if card["first_detected_s"] is None],
        alarms=_cards(summary, "alarms"),
        alarm_name="alarm" if summary["drive"] and summary["drive"]["objects"] is None else "false alarm",
        details={
            key: summary[key]
            for key in ("source", "detector", "settings", "versions", "hardware")
            if summary.get(key) is not None
        },
    )
    write_text(path, page)


def _cards(summary: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Return the tracks of a drive's objects or alarms, with number and pictures; of many the first ones have some."""
    if not summary["drive"]:
        return []
    tracks = (summary["objects"] or {"tracks": []})["tracks"] if kind == "objects" else summary["drive"]["alarms"]
    shown = sorted(range(len(tracks)), key=lambda place: -tracks[place]["frames"])[: PICTURED[kind]]
    cards = []
    for place, track in enumerate(tracks):
        shots = [
            ("nearest" if kind == "objects" else "largest", Shot(track["nearest_frame"], tuple(track["nearest_box"])))
        ]
        if kind == "objects" and track["detected_frame"] is not None:
            shots.insert(0, ("first detected", Shot(track["detected_frame"], tuple(track["detected_box"]))))
        cards.append(track | {"number": place + 1, "shots": shots if place in shown else []})
    return cards


def drive_in_words(summary: dict[str, Any]) -> str:
    """Return what a driver asks first as one line: obstacles found, how soon, false alarms, latency; empty if none."""
    drive, live = summary["drive"], summary["live"]
    if not drive:
        return ""
    parts = []
    if drive["objects"]:
        found = f"{drive['objects_found']} of {drive['objects']} obstacles found"
        soon = "" if drive["delay_s"] is None else f", typically {drive['delay_s']:.1f} s after they appear"
        parts.append(found + soon)
    if drive["alarms_per_minute"] is not None:
        kind, tracked = "alarms" if drive["objects"] is None else "false alarms", drive["tracks"]
        per_km = "" if drive["alarms_per_km"] is None else f" ({number(drive['alarms_per_km'])} a kilometre)"
        rates = [f"{rate:.{int(rate < 10)}f}" for rate in (drive["alarms_per_minute"], tracked["alarms_per_minute"])]
        parts.append(f"{rates[0]} {kind} a minute{per_km}")
        only = [f"{rates[1]} {kind} a minute"]
        if drive["objects"]:
            only.insert(0, f"{tracked['objects_found']} found")
        if drive["distance_at_confirmation_m"] is not None:
            only.append(f"confirmed {number(drive['distance_at_confirmation_m'])} m ahead")
        parts.append(f"with tracks {', '.join(only)}")
    if live:
        parts.append(f"{number(live['latency_ms']['p50'])} ms from camera to map")
    elif summary["latency_ms"].get("total"):
        parts.append(f"{number(summary['latency_ms']['total']['p50'])} ms of computing a frame")
    return "; ".join(parts)


def headline(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the figures that matter most as (name, text)."""
    figures: list[tuple[str, str]] = []
    pixel, objects, live, total = (summary[key] for key in ("pixel", "objects", "live", "latency_ms"))
    if pixel:
        figures += [(name, percent(pixel[key])) for name, key in (("AP", "ap"), ("FPR95", "fpr95"), ("AUROC", "auroc"))]
        figures.append(("component F1", percent(summary["components"]["f1_mean"])))
    if objects:
        figures.insert(0, ("obstacles found", f"{objects['detected']} of {objects['count']}"))
    if not pixel and summary["alarms"]:
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


def grouped(summary: dict[str, Any]) -> list[dict[str, str]]:
    """Return the figures of each category, or of each interval of one state, by name, as texts."""
    rows = []
    for one in summary.get("categories") or summary.get("intervals") or ():
        state, pixel, drive = one.get("detector", {}), one["pixel"] or {}, one["drive"]
        row = {"": one["name"]} if "name" in one else {"from": f"{one['from_ns'] / 1e9:.3f}"}
        row |= {key.replace("_", " "): str(state[key]) for key in ("prompt_set", "scoring", "method") if key in state}
        if "threshold" in state:
            row["threshold"] = number(state["threshold"])
        row["frames"] = str(one["frames"]["evaluated"])
        for name, key in (("AP", "ap"), ("FPR95", "fpr95"), ("AUROC", "auroc")):
            row |= {name: percent(pixel[key]) + in_percent(pixel["interval_95"][key])} if pixel else {}
        if one["components"]:
            row["component F1"] = percent(one["components"]["f1_mean"])
        if drive and drive["objects"] is not None:
            row["found"] = f"{drive['objects_found']} of {drive['objects']}"
        if drive:
            row["alarms a minute"] = number(drive["alarms_per_minute"])
        rows.append(row | {"segments a frame": number(one["alarms"]["segments_per_frame"])})
    return rows


def charts(result: EvaluationResult) -> dict[str, Markup]:
    """Return the charts that the result allows, by name."""
    drawn = {name: draw_charts([chart]) for name, chart in _of_pixels(result).items()}
    drawn |= {name: draw_charts([chart], WIDE) for name, chart in _over_frames(result.records).items()}
    return {name: _themed(svg) for name, svg in drawn.items()}


def _themed(svg: str) -> Markup:
    """Give a chart the page's own colours, of light or dark; the text in it is escaped."""
    return Markup(svg.replace(INK, "currentColor").replace(GRID, "var(--line)").replace(PAPER, "none"))


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


def in_percent(interval: list[float] | None) -> str:
    """Return an interval of shares in brackets, empty for none."""
    return "" if interval is None else f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"


def number(value: float | None) -> str:
    """Return a number as short text."""
    return "–" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def pretty(value: Any) -> str:
    """Return nested data as indented JSON."""
    return value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)
