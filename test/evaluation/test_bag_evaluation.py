"""Bags to figures: raw and compressed, with and without labels, damaged ones, and recorded live runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vl4ad_ros.cli.main import main
from vl4ad_ros.evaluation.bag_source import BagSource
from vl4ad_ros.evaluation.live_statistics import latencies, live_statistics, read_recorded, read_sent
from vl4ad_ros.evaluation.predictor import DetectorSpec
from vl4ad_ros.io.bag_reader import BagReader
from vl4ad_ros.io.bag_writer import BagWriter
from vl4ad_ros.io.errors import Vl4adError

START_NS = 1_700_000_000_000_000_000
STEP_NS = 100_000_000
MS = 1_000_000


def evaluate(*arguments: str | Path) -> int:
    return main(["evaluate", *map(str, arguments)])


def summary(folder: Path) -> Any:
    content: Any = json.loads((folder / "result.json").read_text())
    return content


def bag_arguments(bag: Path, bundle: Path, out: Path) -> list[str | Path]:
    topics = ["--image-topic", "/camera/image_raw", "--label-topic", "/camera/label"]
    return ["bag", bag, *topics, "--bundle", bundle, "--prompt-set", "traffic_ood", "--track", "obstacle", "--out", out]


def test_a_drive_is_measured_and_reported(drive: Path, mock_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    also: list[str | Path] = ["--pictures", tmp_path / "pictures", "--mcap", tmp_path / "results"]
    assert evaluate(*bag_arguments(drive, mock_bundle, out), *also) == 0
    best = cv2.imread(str(tmp_path / "pictures" / "best-1.jpg"))
    assert best is not None and best.shape[1] == 2 * 640 + 6
    result = summary(out)
    assert result["frames"] == {"evaluated": 10, "labelled": 10, "with_anomalies": 8}
    assert result["pixel"]["ap"] > 0.9
    objects = result["objects"]
    # One object, seen first in frame 2 and detected in the third frame in a row.
    assert (objects["count"], objects["detected"]) == (1, 1)
    assert objects["tracks"][0]["first_seen_s"] == pytest.approx(0.2)
    assert objects["tracks"][0]["delay_s"] == pytest.approx(0.2)
    # The harmless patch is there in every fourth frame only.
    figures = result["drive"]
    assert (figures["objects"], figures["objects_found"], figures["false_alarms_per_minute"]) == (1, 1, 0)
    assert len((out / "frames.jsonl").read_text().splitlines()) == 10
    for key in ("sha256", "path"):
        assert result["source"][key]
    assert result["detector"]["engine"]["model_sha256"]
    page = (out / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 10
    assert "http://" not in page.replace("http://www.w3.org", "")
    with BagReader(tmp_path / "results") as bag:
        counts = {topic: bag.count(topic) for topic in bag.topics()}
        labels = [image.array() for image in bag.images("/evaluation/label")]
    assert counts["/evaluation/overlay"] == counts["/evaluation/mask"] == counts["/evaluation/latency_ms"] == 10
    assert counts["/evaluation/ap"] == 8  # The frames with an anomaly.
    assert set(np.unique(labels[3]).tolist()) == {0, 1, 255}


def test_several_bags_give_one_result_and_keep_their_objects_apart(
    drive: Path, mock_bundle: Path, tmp_path: Path
) -> None:
    # Compressed without loss: the figures are the same.
    second = _recompress(drive, tmp_path / "second")
    arguments = bag_arguments(drive, mock_bundle, tmp_path / "both")
    arguments.insert(2, second)
    assert evaluate(*arguments, "--jobs", "2") == 0
    assert evaluate(*bag_arguments(drive, mock_bundle, tmp_path / "one")) == 0
    both, one = summary(tmp_path / "both"), summary(tmp_path / "one")
    assert both["pixel"]["positives"] == 2 * one["pixel"]["positives"]
    assert both["pixel"]["ap"] == pytest.approx(one["pixel"]["ap"], abs=1e-12)
    assert [track["drive"] for track in both["objects"]["tracks"]] == ["drive", "second"]


def _recompress(source: Path, target: Path) -> Path:
    """Copy a bag with its camera as lossless CompressedImage."""
    kind = "sensor_msgs/msg/CompressedImage"
    with BagReader(source) as bag, BagWriter(target) as copy:
        copy.add_topic("/camera/image_raw", kind)
        copy.add_topic("/camera/label", "sensor_msgs/msg/Image")
        for image in bag.images("/camera/image_raw"):
            data = cv2.imencode(".png", cv2.cvtColor(image.rgb(), cv2.COLOR_RGB2BGR))[1].reshape(-1)
            header = copy.header(image.stamp_ns, "camera")
            copy.write("/camera/image_raw", image.log_ns, copy.message(kind, header=header, format="png", data=data))
        for topic, log_ns, raw in bag.raw(["/camera/label"]):
            copy.write_raw(topic, log_ns, raw)
    return target


def test_without_labels_alarms_are_counted(drive: Path, mock_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = bag_arguments(drive, mock_bundle, out)
    del arguments[4:6]  # The topic of the labels.
    assert evaluate(*arguments) == 0
    result = summary(out)
    assert (result["pixel"], result["components"], result["objects"]) == (None, None, None)
    # The object from frame 2 on; before it, nothing is blue.
    assert result["alarms"]["frames_with_alarm"] == 8
    assert "Frames with most alarm" in (out / "report.html").read_text()


def write_plain(path: Path, stamps: list[int]) -> Path:
    """A bag with tiny images at these multiples of 0.1 s, in this order."""
    with BagWriter(path) as bag:
        bag.add_topic("/camera/image_raw", "sensor_msgs/msg/Image")
        for place, step in enumerate(stamps):
            image = np.full((16, 16, 3), 10 * step, np.uint8)
            bag.write("/camera/image_raw", START_NS + place, bag.image(image, "rgb8", START_NS + step * STEP_NS, "c"))
    return path


def test_stamps_that_go_back_are_sorted_and_said(tmp_path: Path) -> None:
    source = BagSource(write_plain(tmp_path / "bag", [1, 0, 3, 2, 2]), "/camera/image_raw")
    frames = list(source.frames(range(len(source))))
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 10, 20, 30]
    assert any("go back 2 times" in problem for problem in source.problems)
    assert any("repeat another" in problem for problem in source.problems)
    some = list(source.frames([1, 3]))
    assert [int(frame.image[0, 0, 0]) for frame in some] == [10, 30]


TOLD = {
    "bundle": "mock", "name": "traffic_ood", "version": "1", "threshold": 0.5, "engine": {"backend": "onnxruntime"}
}  # fmt: skip


def record(
    path: Path, maps: dict[int, tuple[int, NDArray[np.float32]]], told: Sequence[dict[str, Any]] = (TOLD,)
) -> Path:
    """Write a recording: step -> (arrival, map), and what the detector told of itself."""
    with BagWriter(path) as bag:
        bag.add_topic("/detector/prompt_set", "std_msgs/msg/String")
        for message in told:
            bag.write("/detector/prompt_set", 1, bag.message("std_msgs/msg/String", data=json.dumps(message)))
        for name in ("uncertainty", "anomaly_mask"):
            bag.add_topic(f"/detector/{name}", "sensor_msgs/msg/Image")
        for step, (arrival, values) in maps.items():
            stamp = START_NS + step * STEP_NS
            bag.write("/detector/uncertainty", arrival, bag.image(values, "32FC1", stamp, "camera"))
            mask = (values >= 0.5).astype(np.uint8) * 255
            bag.write("/detector/anomaly_mask", arrival + MS, bag.image(mask, "mono8", stamp, "camera"))
    return path


def test_recorded_results_give_latency_drops_and_the_offline_figures(
    drive: Path, mock_bundle: Path, tmp_path: Path
) -> None:
    predictor = DetectorSpec(str(mock_bundle), prompt_set="traffic_ood").open()
    source = BagSource(drive, "/camera/image_raw", "/camera/label")
    maps, sent = {}, {}
    for frame in source.frames(range(len(source))):
        sent[START_NS + frame.index * STEP_NS] = 5_000_000_000 + frame.index * STEP_NS
        if frame.index not in (4, 7):
            late = 250 if frame.index == 9 else 20
            maps[frame.index] = (
                5_000_000_000 + frame.index * STEP_NS + late * MS,
                predictor.predict(frame).uncertainty,
            )
    predictor.close()
    recording = record(tmp_path / "recording", maps)
    log = tmp_path / "sent.jsonl"
    log.write_text("".join(json.dumps({"stamp_ns": s, "sent_ns": t}) + "\n" for s, t in sent.items()))

    out, offline = tmp_path / "live", tmp_path / "offline"
    assert evaluate(*bag_arguments(drive, mock_bundle, out), "--recorded", recording, "--sent", log) == 0
    live = summary(out)["live"]
    assert (live["sent"], live["received"], live["dropped"], live["stale"]) == (10, 8, 2, 1)
    assert live["rate_in_hz"] == pytest.approx(10)
    assert live["rate_hz"] == pytest.approx(7 / 1.13)
    assert (live["latency_ms"]["p50"], live["latency_ms"]["max"]) == (20, 250)
    assert summary(out)["frames"]["evaluated"] == 8
    assert summary(out)["detector"]["prompt_set"] == "traffic_ood"

    assert evaluate(*bag_arguments(drive, mock_bundle, offline)) == 0
    records = [json.loads(line) for line in (out / "frames.jsonl").read_text().splitlines()]
    by_name = {r["name"]: r for r in map(json.loads, (offline / "frames.jsonl").read_text().splitlines())}
    for item in records:
        same = by_name[item["name"]]
        assert (item["ap"], item["objects"], item["mask_share"]) == (same["ap"], same["objects"], same["mask_share"])
    assert records[0]["latency_ms"] == {"anomaly_mask": 21.0, "total": 20.0, "uncertainty": 20.0}


def test_a_swap_divides_the_figures(drive: Path, mock_bundle: Path, tmp_path: Path) -> None:
    """Frames 0 to 4 with one prompt set and threshold, 5 to 9 with another; the recorder came when the first held."""
    source = BagSource(drive, "/camera/image_raw", "/camera/label")
    sets = {1: ("traffic_ood", 0.5), 2: ("traffic", 0.3)}
    maps = {}
    for swap, (name, _) in sets.items():
        predictor = DetectorSpec(str(mock_bundle), prompt_set=name).open()
        for frame in source.frames(range(5 * swap - 5, 5 * swap)):
            maps[frame.index] = (frame.index + 1, predictor.predict(frame).uncertainty)
        predictor.close()
    told: list[dict[str, Any]] = []
    for swap, (name, threshold) in sets.items():
        first, second = divmod(START_NS + (5 * swap - 5) * STEP_NS, 1_000_000_000)
        known = {"swap": swap, "name": name, "version": name, "since": {"": {"sec": first, "nanosec": second}}}
        told.append(known | {"threshold": threshold, "scoring": "vl4ad", "previous": told[:1]})
    recording = record(tmp_path / "recording", maps, told)
    out = tmp_path / "out"
    assert evaluate(*bag_arguments(drive, mock_bundle, out), "--recorded", recording) == 0
    found = summary(out)
    assert (found["pixel"], found["drive"], found["alarms"], found["settings"]["threshold"]) == (None,) * 4
    assert found["frames"]["evaluated"] == 10 and "prompt_set" not in found["detector"]
    for one, (name, threshold) in zip(found["intervals"], sets.values(), strict=True):
        assert (one["detector"]["prompt_set"], one["detector"]["threshold"]) == (name, threshold)
        assert one["frames"]["evaluated"] == 5
    records = [json.loads(line) for line in (out / "frames.jsonl").read_text().splitlines()]
    assert [item["threshold"] for item in records] == [0.5] * 5 + [0.3] * 5
    assert found["intervals"][0]["pixel"]["ap"] != found["intervals"][1]["pixel"]["ap"]
    assert "<td>traffic_ood</td>" in (out / "report.html").read_text()
    # A threshold that is named holds in all of them.
    assert evaluate(*bag_arguments(drive, mock_bundle, out), "--recorded", recording, "--threshold", "0.4") == 0
    assert {json.loads(line)["threshold"] for line in (out / "frames.jsonl").read_text().splitlines()} == {0.4}


def test_live_statistics_need_maps_and_a_proper_log(tmp_path: Path) -> None:
    with pytest.raises(Vl4adError, match="holds no uncertainty maps"):
        read_recorded(record(tmp_path / "empty", {}))
    (tmp_path / "log").write_text("hello\n")
    with pytest.raises(Vl4adError, match="not a log of"):
        read_sent(tmp_path / "log")
    assert latencies({}, {"uncertainty": {1: 2}}) == {}
    assert live_statistics({}, {"uncertainty": {1: 2}})["foreign"] == 1


def test_a_recording_of_another_run_than_the_log_is_refused() -> None:
    sent, arrived = {1: 5_000_000_000, 2: 5_100_000_000}, {1: 5_020_000_000, 2: 5_120_000_000}
    assert latencies(sent, {"uncertainty": arrived})[2] == {"uncertainty": 20.0, "total": 20.0}
    earlier = {stamp: moment - 188_000_000_000 for stamp, moment in arrived.items()}
    with pytest.raises(Vl4adError, match=r"two runs, .* 187\.980 s before its image was sent"):
        latencies(sent, {"uncertainty": earlier})
