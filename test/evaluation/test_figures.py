"""The smaller figures: regions, objects over a drive, calibration error, comparison, threshold choice, charts."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from run_cli import Cli

from vl4ad_ros.evaluation import histograms
from vl4ad_ros.evaluation.charts import Chart, Series, draw_charts
from vl4ad_ros.evaluation.compare import compare, frame_intervals
from vl4ad_ros.evaluation.drives import Planner, Vehicle, drive_figures, follow_regions
from vl4ad_ros.evaluation.histograms import average_precision, calibration_error, coarse_by_rank, fold, fpr_at_95
from vl4ad_ros.evaluation.objects import components_on_drive, follow_objects, region_recall
from vl4ad_ros.evaluation.pixel_metrics import PixelMetrics, count_levels, exact_result
from vl4ad_ros.evaluation.threshold_choice import (
    alarm_level,
    choose_threshold,
    count_events,
    write_parameters,
)
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.settings import GroundSettings

STEP_NS = 100_000_000


def item(box: list[int], recall: float, siou: float = 0.0) -> dict[str, Any]:
    return {"box": box, "size": (box[2] - box[0]) * (box[3] - box[1]), "recall": recall, "siou": siou}


def frame(index: int, *objects: dict[str, Any]) -> dict[str, Any]:
    seen = {"objects": list(objects), "drive_objects": list(objects)}
    return {"index": index, "stamp_ns": index * STEP_NS, "height": 100, "width": 200, **seen}


def test_recall_by_size_and_distance() -> None:
    records = [
        frame(0, item([0, 0, 10, 10], 1.0, 0.5), item([50, 40, 90, 90], 0.5, 0.1)),  # 0.5 % far, 10 % near
        frame(1, item([0, 20, 10, 30], 0.0)),
        {"index": 2, "height": 100, "width": 200},
    ]
    groups = region_recall(records)
    by_size = {(g["from"], g["to"]): g for g in groups["by_size"]}
    assert by_size[0.002, 0.01]["objects"] == 2
    assert (by_size[0.002, 0.01]["recall"], by_size[0.002, 0.01]["found"]) == (0.5, 0.5)
    assert (by_size[0.05, 1.0]["recall"], by_size[0.05, 1.0]["found"]) == (0.5, 0.0)
    assert by_size[0.0, 0.0005]["recall"] is None
    near, *_, far = groups["by_distance"]
    assert (near["objects"], far["objects"]) == (1, 2)


def test_an_object_is_followed_and_its_first_detection_timed() -> None:
    records = [
        frame(
            i,
            item([40 + 4 * i, 30, 60 + 4 * i, 45], 0.0 if i < 3 else 0.6),
            *([item([150, 80, 170, 95], 0.1)] * (i > 4)),
        )
        for i in range(8)
    ]
    first, second = follow_objects(records[::-1])
    assert (first.frames, first.first_seen_s) == (8, 0.0)
    assert first.delay_s == pytest.approx(0.5)  # In the third frame of those with a share of its pixels in the mask.
    assert (first.detected_size, first.detected_frame, first.best_recall) == (300, 5, 0.6)
    assert (second.frames, second.delay_s) == (3, None)
    assert second.first_seen_s == pytest.approx(0.5)


def figures_of(records: list[dict[str, Any]]) -> dict[str, Any]:
    return drive_figures(records, follow_objects(records))


def alarmed(index: int, *boxes: list[int], on_label: bool = False) -> dict[str, Any]:
    return frame(index) | {"drive_alarms": [{"box": box, "size": 50, "on_label": on_label} for box in boxes]}


@pytest.mark.parametrize(("hits", "delay_s"), [("001110", 0.4), ("110110", None), ("000000", None), ("111000", 0.2)])
def test_a_detection_needs_three_frames_in_a_row(hits: str, delay_s: float | None) -> None:
    (track,) = follow_objects([frame(i, item([0, 0, 20, 20], 0.25 * int(hit))) for i, hit in enumerate(hits)])
    assert track.delay_s == (None if delay_s is None else pytest.approx(delay_s))


def test_glimpses_are_not_judged() -> None:
    seen = [item([0, 0, 20, 20], 1.0), item([50, 0, 52, 20], 1.0)]  # The second one is a sliver.
    assert figures_of([frame(i, *seen) for i in range(3)])["objects"] == 1
    assert figures_of([frame(i, *seen) for i in range(2)])["objects"] == 0


def test_the_delay_of_a_drive_counts_objects_that_are_never_found() -> None:
    def drive(*recalls: float) -> dict[str, Any]:
        boxes = [[60 * place, 0, 60 * place + 20, 20] for place in range(len(recalls))]
        return figures_of([frame(i, *map(item, boxes, recalls)) for i in range(5)])

    figures = drive(1.0, 1.0, 0.0)
    assert (figures["objects"], figures["objects_found"]) == (3, 2)
    assert figures["delay_s"] == pytest.approx(0.2)
    assert drive(1.0, 0.0, 0.0)["delay_s"] == np.inf
    assert drive()["delay_s"] is None


def test_false_alarms_are_counted_once_each_and_per_minute() -> None:
    there, flicker, elsewhere = [0, 0, 20, 20], [100, 0, 120, 20], [150, 60, 170, 80]
    records = [
        alarmed(i, *([there] if i != 5 else []), *([flicker] if i % 3 else []), *([elsewhere] if i > 5 else []))
        for i in range(11)
    ]
    figures = figures_of(records)
    # One second, one alarm with a gap and one later; the third never lasts for three frames.
    assert [track["first_seen_s"] for track in figures["alarms"]] == [0.0, pytest.approx(0.6)]
    assert figures["false_alarms_per_minute"] == pytest.approx(120)
    on_objects = figures_of([alarmed(i, there, on_label=True) for i in range(11)])
    assert on_objects["false_alarms_per_minute"] == 0


def test_without_labels_no_alarm_is_called_false() -> None:
    records = [alarmed(i, [0, 0, 20, 20]) for i in range(11)]
    for record in records:
        del record["drive_objects"]
    figures = figures_of(records)
    assert (figures["objects"], figures["objects_found"], figures["false_alarms_per_minute"]) == (None, None, None)
    assert figures["alarms_per_minute"] == pytest.approx(60)


def test_an_alarm_on_an_object_or_on_void_is_not_false() -> None:
    mask, labels = np.zeros((40, 100), np.uint8), np.zeros((40, 100), np.uint8)
    for x in (0, 30, 60):
        mask[10:20, x : x + 10] = 255
    mask[30:33, 80:83] = 255  # Too small.
    labels[19:25, 9:15], labels[5:11, 30:40] = 1, 255
    found = components_on_drive(mask, mask / np.float32(255), labels)
    assert {(a["box"][0], a["size"], a["on_label"]) for a in found["drive_alarms"]} == {
        (0, 100, True), (30, 100, True), (60, 100, False),
    }  # fmt: skip
    assert [(o["box"], o["size"]) for o in found["drive_objects"]] == [([9, 19, 15, 25], 36)]
    assert "drive_objects" not in components_on_drive(mask, mask / np.float32(255), None)


def test_tracks_find_the_object_at_its_distance_and_drop_what_flickers() -> None:
    """A box comes nearer on a camera 1.5 m above the ground; a patch flickers, another one stays on nothing."""
    focal, records = 200.0, []
    info = SimpleNamespace(
        height=120, width=200, k=[focal, 0, 99.5, 0, focal, 39.5, 0, 0, 1], d=[0.0] * 5, distortion_model="plumb_bob"
    )
    for index in range(12):
        labels, uncertainty = np.zeros((120, 200), np.uint8), np.full((120, 200), 0.1, np.float32)
        bottom = 40 + round(focal * 1.5 / (20 - index))  # Its lower edge where the ground is 20 m ahead, then 19, ...
        labels[bottom - 12 : bottom, 90:106] = 1
        if index >= 2:
            uncertainty[labels == 1] = 0.9
        uncertainty[100:110, 10:20] = 0.9
        if index % 4 == 0:
            uncertainty[100:110, 170:180] = 0.9
        mask = (uncertainty >= 0.5).astype(np.uint8)
        about = {"index": index, "stamp_ns": index * STEP_NS, "height": 120, "width": 200, "threshold": 0.5}
        records.append(about | components_on_drive(mask, uncertainty, labels))
    metres = np.linspace(0, 120, 13)
    vehicle = Vehicle(info, np.arange(-1, 12, dtype=np.int64) * STEP_NS, metres)
    planner = Planner(ground=GroundSettings(height=1.5), vehicles={"": vehicle})
    follow_regions(records, planner)
    figures = drive_figures(records, follow_objects(records), planner)
    assert figures["kilometres"] == pytest.approx(0.11)
    with_tracks = figures["tracks"]
    assert (figures["objects_found"], with_tracks["objects_found"]) == (1, 1)
    assert with_tracks["delay_s"] == pytest.approx(0.4)
    # Seen from frame 2 on, confirmed in frame 4.
    assert figures["distance_at_confirmation_m"] == pytest.approx(16, rel=0.04)
    assert with_tracks["false_alarms_per_km"] == pytest.approx(1 / 0.11)
    assert with_tracks["false_alarms_per_minute"] == pytest.approx(60 / 1.1)
    unknown = drive_figures(records, follow_objects(records))
    assert (unknown["kilometres"], unknown["false_alarms_per_km"]) == (None, None)


def test_objects_are_followed_through_a_turn_of_the_camera() -> None:
    # Both move by more than their width from frame to frame; the second one comes when the first one's speed is known.
    records = [
        frame(
            i,
            item([10 + 12 * i, 30, 20 + 12 * i, 40], 0.0),
            *([item([5 + 12 * i, 60, 15 + 12 * i, 70], 0.0)] * (i > 2)),
        )
        for i in range(8)
    ]
    assert [track.frames for track in follow_objects(records)] == [8, 5]


def test_a_gap_ends_an_object() -> None:
    tracks = follow_objects([frame(0, item([0, 0, 20, 20], 1.0)), frame(11, item([0, 0, 20, 20], 1.0))])
    assert len(tracks) == 2
    tracks = follow_objects([frame(0, item([0, 0, 20, 20], 1.0)), frame(4, item([0, 0, 20, 20], 1.0))])
    assert len(tracks) == 1


def test_levels_agree_with_the_exact_metrics() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(np.array([0, 1, 255], np.uint8), size=(80, 90), p=[0.7, 0.2, 0.1])
    uncertainty = np.clip(rng.normal(0.3 + 0.3 * (labels == 1), 0.2), 0, 1).astype(np.float32)
    exact = exact_result(uncertainty, labels)
    levels = fold(count_levels(uncertainty, labels))
    assert float(average_precision(*levels)) == pytest.approx(exact.ap, abs=1e-3)
    assert float(fpr_at_95(*levels)) == pytest.approx(exact.fpr95, abs=1e-3)
    coarse = histograms.coarse(levels)
    assert coarse.sum() == (labels != 255).sum()
    assert float(average_precision(coarse[0], coarse[1])) == pytest.approx(exact.ap, abs=5e-3)
    assert histograms.mean_and_p99(levels)[0] == pytest.approx(float(uncertainty[labels != 255].mean()), abs=1e-4)


def test_calibration_error_of_known_cases() -> None:
    labels = np.zeros((10, 10), np.uint8)
    labels[:3] = 1
    honest = np.full((10, 10), 0.3, np.float32)
    assert calibration_error(histograms.calibration(fold(count_levels(honest, labels)))) == pytest.approx(0, abs=1e-4)
    sure = np.full((10, 10), 0.9, np.float32)
    assert calibration_error(histograms.calibration(fold(count_levels(sure, labels)))) == pytest.approx(0.6, abs=1e-4)
    assert np.isnan(calibration_error(np.zeros((3, 15))))


def scored_frames(frames: int, seed: int) -> tuple[Any, Any]:
    """Scores and labels [F, 20, 30], with frames of different difficulty."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 1, 255], np.uint8), size=(frames, 20, 30), p=[0.8, 0.1, 0.1])
    gain = rng.uniform(0.1, 0.5, (frames, 1, 1))
    return np.clip(rng.normal(0.3 + gain * (labels == 1), 0.15), 0, 1).astype(np.float32), labels


@pytest.mark.parametrize("seed", range(2))
def test_intervals_contain_the_figure_and_shrink_with_more_frames(seed: int) -> None:
    widths = []
    for frames in (6, 96):
        scores, labels = scored_frames(frames, seed)
        figures = asdict(exact_result(scores, labels))
        by_level = np.stack([histograms.coarse(fold(count_levels(*pair))) for pair in zip(scores, labels, strict=True)])
        found = frame_intervals(figures, by_level, 300)
        by_rank = frame_intervals(figures, coarse_by_rank(scores, labels), 300)
        for key, interval in found.items():
            assert interval is not None
            assert interval[0] <= figures[key] <= interval[1]
            assert by_rank[key] == pytest.approx(interval, abs=0.02)
        assert found == frame_intervals(figures, by_level, 300)
        widths.append({key: high - low for key, (low, high) in found.items()})  # type: ignore[misc]
    assert all(widths[1][key] < 0.6 * widths[0][key] for key in widths[0])


def test_intervals_of_equal_frames_are_the_figure() -> None:
    scores, labels = (np.repeat(array, 5, axis=0) for array in scored_frames(1, 0))
    figures = asdict(exact_result(scores, labels))
    for key, interval in frame_intervals(figures, coarse_by_rank(scores, labels)).items():
        assert interval == pytest.approx([figures[key]] * 2)


def test_intervals_need_two_frames_and_both_kinds_of_pixels() -> None:
    scores, labels = scored_frames(4, 0)
    nothing = {"ap": None, "fpr95": None, "auroc": None}
    for these in (slice(1), slice(4)):
        truth = labels[these] if these.stop == 1 else labels * np.uint8(0)
        figures = asdict(exact_result(scores[these], truth))
        assert frame_intervals(figures, coarse_by_rank(scores[these], truth)) == nothing


def result(quality: float, frames: int = 12, seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]], Any]:
    """A result whose detector separates by `quality`."""
    rng = np.random.default_rng(seed)
    metrics, records, counts = PixelMetrics(), [], []
    for index in range(frames):
        labels = (rng.random((40, 50)) < 0.1).astype(np.uint8)
        scores = np.clip(rng.normal(0.3 + quality * labels, 0.15), 0, 1).astype(np.float32)
        metrics.add(scores, labels)
        counts.append(histograms.coarse(fold(count_levels(scores, labels))))
        found = {"siou": 0.9 if quality > 0.2 else 0.1, "recall": 1.0, "size": 10, "box": [0, 0, 1, 1]}
        records.append({"name": str(index), "objects": [found], "segments": [{"size": 10, "precision": 0.9}]})
    f1 = 1.0 if quality > 0.2 else 0.0
    summary = {"pixel": asdict(metrics.result()), "components": {"f1_mean": f1}}
    return summary, records, np.array(counts)


def test_comparison_finds_a_regression_and_its_interval() -> None:
    good, bad = result(0.4), result(0.1)
    changes = {change.name: change for change in compare(good, bad, samples=400)}
    assert changes["AP"].paired
    assert changes["AP"].regression(0.01)
    assert changes["FPR95"].regression(0.01)
    ap = changes["AP"]
    assert ap.low is not None and ap.high is not None and ap.difference is not None
    assert ap.low < ap.difference < ap.high < 0
    assert not any(change.regression(0.01) for change in compare(bad, good, samples=400))
    same = compare(good, copy.deepcopy(good), samples=400)
    assert all((change.difference, change.low, change.high) == (0, 0, 0) for change in same)
    apart = compare(good, result(0.4, frames=11, seed=5), samples=400)
    assert not apart[0].paired
    fewer = (good[0], good[1][2:], good[2][2:])
    common = compare(good, fewer, samples=400, only_common=True)
    assert all(change.paired and change.difference == 0 for change in common)
    assert common[0].before == pytest.approx(good[0]["pixel"]["ap"], abs=0.05)
    with pytest.raises(Vl4adError, match="ground truth"):
        compare(good, ({"pixel": None}, [], np.zeros((0, 2, 1024), np.uint32)), samples=400)


def test_compare_on_the_command_line_fails_on_a_regression(
    folder: Path, mock_bundle: Path, tmp_path: Path, cli: Cli
) -> None:
    for name, scoring in (("a", "vl4ad"), ("b", "entropy")):  # The mock network's entropy is 0 everywhere.
        options = ["--bundle", str(mock_bundle), "--prompt-set", "traffic_ood", "--scoring", scoring]
        cli("evaluate", "dataset", "folder", folder, *options, "--out", tmp_path / name)
    said = cli("evaluate", "compare", tmp_path / "a", tmp_path / "b", "--samples", "200", status=1)
    assert "detector.scoring: vl4ad -> entropy" in said
    assert "REGRESSION beyond 0.01" in said
    same = cli("evaluate", "compare", tmp_path / "a", tmp_path / "a", "--samples", "200", "--json")
    assert json.loads(same)["regressions"] == []
    (tmp_path / "a" / "frames.jsonl").write_text('{"name": "a"}\n')
    assert "10 histograms" in cli.error("evaluate", "compare", tmp_path / "a", tmp_path / "b")


def test_the_alarm_level_is_where_the_last_large_segment_goes() -> None:
    uncertainty = np.full((40, 40), 0.1, np.float32)
    uncertainty[5:15, 5:15] = 0.8  # 100 pixels
    uncertainty[5:8, 5:8] = 0.95  # too small alone
    assert alarm_level(uncertainty, 50) == pytest.approx(0.8, abs=1 / 2048)
    assert alarm_level(uncertainty, 9) == pytest.approx(0.95, abs=1 / 2048)
    assert alarm_level(uncertainty, 2000) < 1 / 2048


def test_the_threshold_keeps_the_target_and_no_lower_one_does() -> None:
    levels = [np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])]
    times = [np.arange(0.0, 50.0, 5.0)]
    choice = choose_threshold(levels, times, per_frame=0.2, per_km=None, kilometres=None)
    assert choice.alarm_share == pytest.approx(0.2)
    assert 0.8 < choice.threshold < 0.801
    per_km = choose_threshold(levels, times, per_frame=None, per_km=1.5, kilometres=2.0)
    assert (per_km.events, per_km.events_per_km) == (3, 1.5)
    assert 0.7 < per_km.threshold < 0.701
    with pytest.raises(Vl4adError, match="No threshold"):
        choose_threshold([np.ones(3)], [np.arange(3.0)], 0.0, None, None)


def test_alarms_in_a_row_are_one_event() -> None:
    times = np.array([0.0, 0.1, 0.2, 5.0, 5.5, 9.0])
    assert count_events(np.array([1, 1, 1, 1, 1, 1], bool), times) == 3
    assert count_events(np.array([0, 0, 0, 0, 0, 0], bool), times) == 0


def test_calibrate_writes_a_parameter_file(drive: Path, mock_bundle: Path, tmp_path: Path, cli: Cli) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("/**:\n  ros__parameters:\n    max_rate: 5.0\n")
    options = ["--image-topic", "/camera/image_raw", "--bundle", str(mock_bundle), "--prompt-set", "traffic_ood"]
    target = ["--per-frame", "0", "--track", "obstacle", "--params", str(params)]
    said = cli("evaluate", "calibrate", drive, *options, *target)
    written = yaml.safe_load(params.read_text())["/**"]["ros__parameters"]
    assert written["max_rate"] == 5.0
    # On paper: blue has cosine 0 to red and green and 1 to blue; u = -1 / (2 + e).
    assert written["threshold"] == pytest.approx(1 - 1 / (2 + np.e), abs=2e-3)
    assert "alarms in 0.00 % of 10 frames" in said


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("/**: {ros__parameters: {a: 1}}\ndetector: {ros__parameters: {threshold: 0.5}}", "detector"),
        ("detector: {ros__parameters: {a: 1}}\n/**: {ros__parameters: {threshold: 0.5}}", "/**"),
        ("/**: {ros__parameters: {a: 1}}\n/detector: {ros__parameters: {b: 1}}", "/detector"),
        ("/front/detector: {ros__parameters: {threshold: 0.5}}\nother: {ros__parameters: {a: 1}}", "/front/detector"),
        ("/**: {ros__parameters: {threshold: 1.0}}\n/a/detector: {ros__parameters: {threshold: 0.5}}", "/a/detector"),
        ("/**: {ros__parameters: {a: 1}}\n/**/detector: {ros__parameters: {a: 2}}", "/**/detector"),
        ("", "/**"),
    ],
)
def test_the_threshold_goes_where_it_has_an_effect(text: str, place: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    before = yaml.safe_load(text) or {}
    write_parameters(path, 0.25, "x")
    after = yaml.safe_load(path.read_text())
    assert after[place]["ros__parameters"].pop("threshold") == 0.25
    before.setdefault(place, {"ros__parameters": {}})["ros__parameters"].pop("threshold", None)
    assert after == before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[1, 2]", "is no parameter file"),
        ("detector: 3", "is no parameter file"),
        ("/a/detector: {ros__parameters: {a: 1}}\n/b/detector: {ros__parameters: {a: 1}}", "several sections"),
    ],
)
def test_other_parameter_files_stay_as_they_are(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(Vl4adError, match=sentence):
        write_parameters(path, 0.25, "x")
    assert path.read_text() == text


def test_near_1_there_is_a_threshold_unless_an_alarm_is_certain() -> None:
    uncertainty = np.zeros((20, 20), np.float32)
    for top, threshold in ((0.99995, 1.0), (0.9, 0.9)):
        uncertainty[:10, :10] = top
        level = alarm_level(uncertainty, 50)
        choice = choose_threshold([np.array([level, 0.5])], [np.array([0.0, 5.0])], 0.0, None, None)
        assert choice.threshold == pytest.approx(threshold, abs=1e-3)
        assert (choice.threshold <= 1, choice.alarm_share) == (True, 0)
    uncertainty[:10, :10] = 1
    with pytest.raises(Vl4adError, match="No threshold up to 1"):
        choose_threshold([np.array([alarm_level(uncertainty, 50)])], [np.zeros(1)], 0.0, None, None)


def test_a_chart_shows_its_points_and_escapes_text() -> None:
    series = [Series("one < two", [0, 1, 2, 3], [0.0, 1.0, None, 0.5], dots=True)]
    svg = draw_charts([Chart(series, "a < b", "y", (0, 3), (0, 1)), Chart(series, "c", "d")])
    assert svg.startswith("<svg") and svg.endswith("</svg>")
    ElementTree.fromstring(svg)
    assert "a &lt; b" in svg and "a < b" not in svg
    assert "http" not in svg.replace("http://www.w3.org", "")


def test_a_chart_without_a_range_fits_its_values() -> None:
    svg = draw_charts([Chart([Series("", [0, 40, 80], [0.0, 300.0, 600.0])], "seconds", "ms")])
    assert ">80<" in svg and ">600<" in svg
