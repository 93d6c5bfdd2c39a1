from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import auc, roc_auc_score, roc_curve

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import write_json
from vl4ad_ros.random_word.clip_detector import Detection
from vl4ad_ros.random_word.evaluate import evaluate_products
from vl4ad_ros.random_word.product_metrics import ProductMetrics, per_region_overlap
from vl4ad_ros.random_word.products import load_categories


def write(path: Path, value: int = 0, box: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((16, 16, 3), value, np.uint8)
    if box:
        image[4:8, 4:8] = 255
    assert cv2.imwrite(str(path), image)


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    root = tmp_path / "mvtec"
    for name in ("bottle", "cable"):
        write(root / name / "train/good/000.png")
        write(root / name / "test/good/000.png")
        write(root / name / "test/broken/000.png", 50, box=True)
        write(root / name / "ground_truth/broken/000_mask.png", 0, box=True)
    return root


@pytest.fixture
def visa(tmp_path: Path) -> Path:
    root = tmp_path / "visa"
    write(root / "candle/Data/Images/Normal/0000.JPG")
    write(root / "candle/Data/Images/Normal/0001.JPG")
    write(root / "candle/Data/Images/Anomaly/000.JPG", 90)
    write(root / "candle/Data/Masks/Anomaly/000.png", 0, box=True)
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text(
        "object,split,label,image,mask\n"
        "candle,train,normal,candle/Data/Images/Normal/0000.JPG,\n"
        "candle,test,normal,candle/Data/Images/Normal/0001.JPG,\n"
        "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png\n"
    )
    return root


def test_mvtec_layout(mvtec: Path) -> None:
    bottle, cable = load_categories(mvtec, "mvtec")
    assert (bottle.name, cable.name) == ("bottle", "cable")
    assert [picture.image for picture in bottle.train] == [mvtec / "bottle/train/good/000.png"]
    assert [(picture.image, picture.anomalous) for picture in bottle.test] == [
        (mvtec / "bottle/test/broken/000.png", True),
        (mvtec / "bottle/test/good/000.png", False),
    ]
    mask = bottle.test[0].read_mask(8, 8)
    assert mask.sum() == 4
    assert mask[2:4, 2:4].all()
    assert not bottle.test[1].read_mask(8, 8).any()
    assert bottle.test[0].read()[0, 0].tolist() == [50, 50, 50]
    assert [category.name for category in load_categories(mvtec, "mvtec", ["cable"])] == ["cable"]


def test_mvtec_faults(mvtec: Path, tmp_path: Path) -> None:
    with pytest.raises(Vl4adError, match=r"some of \['bottle', 'cable'\], got 'cabel'"):
        load_categories(mvtec, "mvtec", ["cabel"])
    (mvtec / "cable/ground_truth/broken/000_mask.png").unlink()
    with pytest.raises(Vl4adError, match=r"has no mask: expected .*000_mask\.png"):
        load_categories(mvtec, "mvtec")
    with pytest.raises(Vl4adError, match="holds no category"):
        load_categories(tmp_path, "mvtec")
    with pytest.raises(Vl4adError, match=r"\['mvtec', 'visa'\], got 'mvtek'"):
        load_categories(mvtec, "mvtek")


def test_visa_layout(visa: Path) -> None:
    (candle,) = load_categories(visa, "visa")
    assert [picture.anomalous for picture in candle.train] == [False]
    assert [picture.anomalous for picture in candle.test] == [False, True]
    assert candle.test[1].read_mask(16, 16).sum() == 16
    (visa / "candle/Data/Masks/Anomaly/000.png").unlink()
    with pytest.raises(Vl4adError, match=r"line 4 needs .*000\.png"):
        load_categories(visa, "visa")
    (visa / "split_csv/1cls.csv").unlink()
    with pytest.raises(Vl4adError, match=r"no split_csv/1cls\.csv"):
        load_categories(visa, "visa")


def test_region_overlap_on_paper() -> None:
    def f(*values: float) -> np.ndarray:
        return np.array(values, np.float32)

    # Both regions are found before the first false positive: 1.
    assert per_region_overlap([f(0.1, 0.2)], [f(0.9), f(0.8, 0.7)]) == pytest.approx(1)
    # Region A (4 pixels) is found at once, B (1 pixel) never before FPR 1: 1/2 at every rate below.
    assert per_region_overlap([f(*[0.5] * 10)], [f(0.9, 0.9, 0.9, 0.9), f(0.1)], 0.3) == pytest.approx(0.5)
    # All scores equal: one straight line from (0, 0) to (1, 1); its mean up to 0.3 is 0.15.
    assert per_region_overlap([f(1, 1, 1)], [f(1), f(1, 1)], 0.3) == pytest.approx(0.15)
    # One of ten negatives above the region: nothing up to rate 0.1, then everything.
    negatives = f(0.9, *[0.1] * 9)
    assert per_region_overlap([negatives], [f(0.5)], 0.3) == pytest.approx(2 / 3)
    assert np.isnan(per_region_overlap([negatives], []))


def test_region_overlap_agrees_with_a_slow_count() -> None:
    rng = np.random.default_rng(0)
    normal = [(rng.integers(0, 20, 50) / 20).astype(np.float32) for _ in range(2)]
    regions = [(rng.integers(5, 25, size) / 20).astype(np.float32) for size in (3, 10, 30)]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(np.concatenate([*normal, *regions]).tolist()), reverse=True):
        fpr = float(np.mean(np.concatenate(normal) >= threshold))
        points.append((fpr, float(np.mean([(region >= threshold).mean() for region in regions]))))
    grid = np.linspace(0, 0.3, 300001)
    curve = np.interp(grid, [x for x, _ in points], [y for _, y in points])
    assert per_region_overlap(normal, regions, 0.3) == pytest.approx(curve.mean(), abs=1e-4)


def test_region_overlap_of_images_agrees_with_other_libraries() -> None:
    """Regions by SciPy, false-positive rates by scikit-learn, one threshold after the other."""
    rng = np.random.default_rng(1)
    structure = np.ones((3, 3))
    images = []
    metrics = ProductMetrics()
    for number in range(4):
        smooth = cv2.GaussianBlur(rng.normal(size=(48, 64)).astype(np.float32), (0, 0), 2)
        mask = (smooth > 0.3).astype(np.uint8) if number else np.zeros((48, 64), np.uint8)
        noise = rng.normal(size=mask.shape) * 0.2
        scores = (np.round((smooth + noise) * 20) / 20).astype(np.float32)  # With ties.
        images.append((scores, mask))
        metrics.add(float(scores.max()), scores, mask, bool(mask.any()))
    labelled = [ndimage.label(mask, structure) for _, mask in images]
    regions = [
        scores[numbers == number]
        for (scores, _), (numbers, count) in zip(images, labelled, strict=True)
        for number in range(1, count + 1)
    ]
    everything = np.concatenate([scores.ravel() for scores, _ in images])
    truth = np.concatenate([mask.ravel() for _, mask in images])
    fpr, _, thresholds = roc_curve(truth, everything, drop_intermediate=False)
    overlap = np.array([np.mean([(region >= limit).mean() for region in regions]) for limit in thresholds])
    inside = fpr <= 0.3
    x, y = np.append(fpr[inside], 0.3), np.append(overlap[inside], np.interp(0.3, fpr, overlap))
    result = metrics.result()
    assert result["regions"] == len(regions) > 10
    assert result["pro"] == pytest.approx(auc(x, y) / 0.3, abs=1e-9)
    assert result["pixel_auroc"] == pytest.approx(roc_auc_score(truth, everything), abs=1e-9)


class Brightness:
    """In place of CLIP: a picture's score is its mean, its map its first channel."""

    def detect(self, images: list[np.ndarray]) -> list[Detection]:
        maps = [np.asarray(image[..., 0] / 255, np.float32) for image in images]
        return [Detection(float(one.mean()), one) for one in maps]


def test_a_category_of_good_pictures_only_is_null_and_left_out_of_the_mean(mvtec: Path, tmp_path: Path) -> None:
    for path in ("ground_truth/broken", "test/broken"):
        shutil.rmtree(mvtec / "cable" / path)
    detector: Any = Brightness()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = evaluate_products(detector, load_categories(mvtec, "mvtec"), side=16)
        alone = evaluate_products(detector, load_categories(mvtec, "mvtec", ["cable"]), side=16)
    figures = ("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pro")
    bottle, cable = result["categories"]["bottle"], result["categories"]["cable"]
    assert [bottle[figure] for figure in figures] == pytest.approx([1, 1, 1, 1, 1])
    assert cable == dict.fromkeys(figures) | {"images": 1, "regions": 0}
    assert result["mean"] == {figure: bottle[figure] for figure in figures}
    assert result["left_out"] == {figure: ["cable"] for figure in figures}
    assert alone["mean"] == dict.fromkeys(figures)
    write_json(tmp_path / "x.json", {**alone, "loss": float("nan")})
    assert json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail) == {**alone, "loss": None}


def test_category_figures() -> None:
    metrics = ProductMetrics()
    mask = np.zeros((8, 8), np.uint8)
    metrics.add(0.1, np.full((8, 8), 0.1, np.float32), mask, False)
    metrics.add(0.6, np.full((8, 8), 0.2, np.float32), mask, False)
    mask = mask.copy()
    mask[1:3, 1:3] = 1
    mask[5:, 5:] = 1
    metrics.add(0.5, np.where(mask, 0.9, 0.1).astype(np.float32), mask, True)
    metrics.add(0.9, np.where(mask, 0.8, 0.1).astype(np.float32), mask, True)
    result = metrics.result()
    assert result["image_auroc"] == pytest.approx(3 / 4)
    assert result["image_ap"] == pytest.approx((1 + 2 / 3) / 2)
    assert result["image_f1_max"] == pytest.approx(0.8)
    assert result["pixel_auroc"] == 1
    assert result["pro"] == pytest.approx(1)
    assert (result["images"], result["regions"]) == (4, 4)
    with pytest.raises(Vl4adError, match="cannot be evaluated"):
        metrics.add(float("nan"), np.zeros((8, 8), np.float32), mask, True)
