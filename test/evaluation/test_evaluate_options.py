"""Options of `vl4ad evaluate`: by the size of objects, on the road alone, at the best threshold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from run_cli import Cli

from vl4ad_ros.cli.main import main
from vl4ad_ros.evaluation.component_metrics import track
from vl4ad_ros.evaluation.frames import Frame
from vl4ad_ros.evaluation.measure import Measurements
from vl4ad_ros.evaluation.objects import labels_by_height, region_recall
from vl4ad_ros.evaluation.pixel_metrics import exact_result
from vl4ad_ros.evaluation.predictor import Prediction


def measured(folder: Path, bundle: Path, out: Path, *options: str | Path) -> dict[str, Any]:
    given = ["--bundle", bundle, "--prompt-set", "traffic_ood", "--track", "obstacle", "--out", out, *options]
    assert main(["evaluate", "dataset", "folder", str(folder), *map(str, given)]) == 0
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    return result


def test_categories_have_figures_of_their_own(folder: Path, mock_bundle: Path, tmp_path: Path) -> None:
    wanted = tmp_path / "categories.yaml"
    wanted.write_text("near: ['08', '09']\nfar: ['02', '03', '04']\n")
    found = measured(folder, mock_bundle, tmp_path / "all", "--categories", wanted, "--jobs", "2")
    near, far = found["categories"]
    assert [(one["name"], one["frames"]["evaluated"]) for one in (near, far)] == [("near", 2), ("far", 3)]
    assert found["frames"]["evaluated"] == 10 and found["pixel"]["interval_95"]["ap"]
    # The same figures as of a folder that has only these frames.
    alone = tmp_path / "alone"
    shutil.copytree(folder, alone)
    for path in alone.glob("*/*.png"):
        if path.stem not in ("08", "09"):
            path.unlink()
    same = measured(alone, mock_bundle, tmp_path / "some")
    for key in ("pixel", "components", "alarms"):
        assert near[key] == same[key]
    page = (tmp_path / "all" / "report.html").read_text()
    assert "<td>near</td>" in page and "Categories" in page


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("near: [8]", "in quotes"),
        ("near: ['08']\nfar: ['08']", "'08'"),
        ("near: ['zebra']", "zebra"),
        ("[1]", "quotes"),
    ],
)
def test_wrong_categories_are_named(
    text: str, word: str, folder: Path, mock_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(text)
    command = ["evaluate", "dataset", "folder", str(folder), "--bundle", str(mock_bundle), "--out", str(tmp_path / "o")]
    assert main([*command, "--categories", str(tmp_path / "c.yaml")]) == 2
    assert word in capsys.readouterr().err


@pytest.mark.parametrize("width", [640, 1280])
def test_objects_are_grouped_by_their_height_at_a_width_of_1280(width: int) -> None:
    labels = np.zeros((300, width), np.uint8)
    labels[:5] = 255
    heights = [23, 24, 63, 64, 200]
    for number, height in enumerate(heights):
        labels[10 : 10 + height * width // 1280, 20 + 40 * number : 40 + 40 * number] = 1
    real = [height * width // 1280 * 1280 / width for height in heights]
    groups = labels_by_height(labels)
    for group, (low, high) in zip(groups, ((0, 24), (24, 64), (64, np.inf)), strict=True):
        here = {number for number in range(5) if (group[10:, 20 + 40 * number : 40 + 40 * number] == 1).any()}
        assert here == {number for number, height in enumerate(real) if low <= height < high}
        assert ((group == 0) == (labels == 0)).all()
    assert (sum((group == 1).astype(int) for group in groups) == (labels == 1)).all()


def test_figures_of_a_size_leave_out_the_other_objects() -> None:
    rng = np.random.default_rng(0)
    parts = [Measurements(track("obstacle"), 0.5, per_size=True) for _ in range(2)]
    maps, truths = [], []
    for index in range(4):
        labels = np.zeros((200, 640), np.uint8)
        labels[20:30, 30:60], labels[50:75, 100:160], labels[90:170, 300:400] = 1, 1, 1
        uncertainty = np.clip(rng.normal(0.3 + 0.3 * (labels == 1), 0.2), 0, 1).astype(np.float32)
        frame = Frame(index, str(index), np.zeros((200, 640, 3), np.uint8), labels)
        parts[index % 2].add(frame, Prediction(uncertainty, {}, 0.5))
        maps.append(uncertainty)
        truths.append(labels)
    parts[0].merge(parts[1])
    rows = region_recall(list(parts[0].records.values()), by_height=True)["by_height"]
    assert [row["objects"] for row in rows] == [4, 4, 4]
    for metrics, (top, bottom) in zip(parts[0].sizes, ((0, 40), (40, 80), (80, 200)), strict=True):
        by_hand = np.stack(truths)
        for others in (by_hand[:, :top], by_hand[:, bottom:]):
            others[others == 1] = 255
        assert metrics.result().ap == pytest.approx(exact_result(np.stack(maps), by_hand).ap, abs=1e-4)


@pytest.mark.parametrize("values", [None, "7,9"])
def test_road_only_equals_masking_by_hand(values: str | None, folder: Path, mock_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "hand" / "labels").mkdir(parents=True)
    shutil.copytree(folder / "images", tmp_path / "hand" / "images")
    for path in (folder / "labels").iterdir():
        labels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert labels is not None
        # Two kinds of road, and beside it what is outside: 0, or in a label image another class.
        mask = np.full(labels.shape, 0 if values is None else 3, np.uint8)
        mask[30:60, :70], mask[30:60, 70:80] = 7, 9
        cv2.imwrite(str(tmp_path / "masks" / path.name), mask)
        labels[(mask != 7) & (mask != 9)] = 255
        cv2.imwrite(str(tmp_path / "hand" / "labels" / path.name), labels)
    options: list[str | Path] = ["--road-only", tmp_path / "masks", "--per-size"]
    options += ["--road-values", values] if values else []
    found = measured(folder, mock_bundle, tmp_path / "a", *options)
    by_hand = measured(tmp_path / "hand", mock_bundle, tmp_path / "b", "--per-size")
    for key in ("frames", "pixel", "components", "regions", "alarms"):
        assert found[key] == by_hand[key]
    assert found["pixel"]["negatives"] < 10 * 30 * 80
    assert found["source"]["road_only"]["path"] == str(tmp_path / "masks")


def test_frames_without_a_road_mask_are_left_out_and_named(folder: Path, mock_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    for name in ("02.png", "05.png"):
        cv2.imwrite(str(tmp_path / "masks" / name), np.full((64, 96), 255, np.uint8))
    found = measured(folder, mock_bundle, tmp_path / "out", "--road-only", tmp_path / "masks")
    assert found["frames"]["evaluated"] == 2
    assert "road mask" in found["problems"][0]


def test_the_best_threshold_is_that_of_the_best_f1_and_named(
    folder: Path, mock_bundle: Path, tmp_path: Path, cli: Cli
) -> None:
    best = measured(folder, mock_bundle, tmp_path / "best", "--threshold", "best")
    threshold = best["pixel"]["best_f1_threshold"]
    assert (best["settings"]["threshold"], best["settings"]["threshold_from"]) == (threshold, "best_f1")
    given = measured(folder, mock_bundle, tmp_path / "given", "--threshold", repr(threshold))
    assert given["settings"]["threshold_from"] == "given"
    assert given["components"] == best["components"]
    without = ["--anomaly", "77", "--threshold", "best", "--bundle", str(mock_bundle), "--prompt-set", "traffic_ood"]
    assert (
        "best"
        in cli.error("evaluate", "dataset", "folder", folder, *without, "--out", tmp_path / "none").splitlines()[-1]
    )
