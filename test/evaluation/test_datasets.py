"""Benchmarks' folders, odd files, and stored score maps."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from run_cli import Cli

from vl4ad_ros.cli.main import main
from vl4ad_ros.evaluation import histograms
from vl4ad_ros.evaluation.datasets import DatasetSource
from vl4ad_ros.evaluation.layouts import find_pairs, layout
from vl4ad_ros.evaluation.pixel_metrics import count_levels
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.labels import COLOUR, LabelMapping, parse_values, read_label_values

RED = np.full((12, 16, 3), (200, 30, 20), np.uint8)


def put(path: Path, pixels: NDArray[np.uint8], kind: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format=kind)


def values(*levels: int) -> NDArray[np.uint8]:
    """A label image 12 x 16 with these values in columns of equal width."""
    return np.repeat(np.array(levels, np.uint8), 16 // len(levels))[None].repeat(12, axis=0)


# Data set -> (image, label, stored values, labels expected from left to right, what lies beside and is neither).
FILES = {
    "road_anomaly_21": (
        "images/a.jpg", "labels_masks/a_labels_semantic.png", (0, 1, 255, 0), (0, 1, 255, 0),
        ["labels_masks/a_labels_semantic_color.png", "README.png"],
    ),
    "road_obstacle_21": (
        "images/a_1.webp", "labels_masks/a_1_labels_semantic.png", (0, 1, 255, 255), (0, 1, 255, 255),
        ["labels_masks/a_1_labels_semantic_color.png"],
    ),
    "fishyscapes_static": (
        "0003_berlin_000_rgb.png", "0003_berlin_000_labels.png", (0, 1, 255, 0), (0, 1, 255, 0), [],
    ),
    "fishyscapes_lost_and_found": (
        "leftImg8bit/test/04_x/04_x_000001_000010_leftImg8bit.png", "fs/0007_04_x_000001_000010_labels.png",
        (0, 1, 255, 1), (0, 1, 255, 1), [],
    ),
    "lost_and_found": (
        "leftImg8bit/train/01_y/01_y_000000_000020_leftImg8bit.png",
        "gtCoarse/train/01_y/01_y_000000_000020_gtCoarse_labelIds.png", (0, 1, 17, 201), (255, 0, 1, 255),
        [f"gtCoarse/train/01_y/01_y_000000_000020_gtCoarse_{kind}.png" for kind in ("color", "labelTrainIds")],
    ),
    "road_anomaly": (
        "frames/cow.jpg", "frames/cow.labels/labels_semantic.png", (0, 2, 0, 2), (0, 1, 0, 1),
        ["frames/cow.labels/labels_semantic_color.png"],
    ),
    "road_anomaly in its other form": ("images/00.jpg", "labels/00.png", (0, 1, 0, 1), (0, 1, 0, 1), []),
    "camvid_ood": ("images/0001.jpg", "labels/0001.png", (3, 12, 11, 0), (0, 1, 255, 0), []),
    "mvtec": ("cup/test/cut/000.png", "cup/ground_truth/cut/000_mask.png", (0, 255, 0, 255), (0, 1, 0, 1), []),
}  # fmt: skip


@pytest.mark.parametrize("name", list(FILES))
@pytest.mark.parametrize("above", ["", "archive/dataset"])
def test_each_layout_is_found_and_its_labels_mean_what_they_should(name: str, above: str, tmp_path: Path) -> None:
    image, label, stored, expected, beside = FILES[name]
    put(tmp_path / above / image, RED)
    put(tmp_path / above / label, values(*stored))
    for path in beside:
        put(tmp_path / above / path, values(9, 9, 9, 9))
    source = DatasetSource(tmp_path, layout(name.split()[0]))
    (frame,) = source.frames(range(len(source)))
    assert source.problems == []
    assert frame.labels is not None
    assert frame.labels[0, ::4].tolist() == list(expected)
    assert frame.image.shape == (12, 16, 3)
    assert abs(int(frame.image[6, 8, 0]) - 200) < 12


def test_missing_partners_are_listed(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        put(tmp_path / "images" / f"{name}.jpg", RED)
    for name in ("b", "c", "d"):
        put(tmp_path / "labels" / f"{name}.png", values(0, 12))
    source = DatasetSource(tmp_path, layout("camvid_ood"))
    assert len(source) == 2
    assert source.problems == [
        "1 labels have no image and are left out: d.",
        "1 images have no label and are left out: a.",
    ]


def test_a_folder_without_anything_fitting_says_what_it_expected(tmp_path: Path) -> None:
    put(tmp_path / "images" / "a.jpg", RED)
    with pytest.raises(
        Vl4adError, match=r"1 images and 0 labels of CamVid-OOD; expected images like 'images/NAME\.png'"
    ):
        find_pairs(tmp_path, layout("camvid_ood"))
    with pytest.raises(Vl4adError, match="There is no folder"):
        find_pairs(tmp_path / "nowhere", layout("camvid_ood"))
    with pytest.raises(Vl4adError, match="Unknown data set: expected one of"):
        layout("cityscapes")


def test_labels_in_odd_forms(tmp_path: Path) -> None:
    plain = values(0, 1, 255, 7)
    palette = Image.fromarray(plain, mode="P")
    palette.putpalette([level for number in range(256) for level in (255 - number, number, 128)])
    palette.save(tmp_path / "palette.png")
    Image.fromarray(np.dstack([plain] * 3)).save(tmp_path / "grey.png")
    Image.fromarray(plain.astype(np.uint16) * 100).save(tmp_path / "deep.png")
    Image.fromarray((plain > 0).astype(np.uint8) * 255).convert("1").save(tmp_path / "bits.png")
    row = [0, 1, 255, 7]
    assert read_label_values(tmp_path / "palette.png")[0, ::4].tolist() == row
    assert read_label_values(tmp_path / "grey.png")[0, ::4].tolist() == row
    assert read_label_values(tmp_path / "deep.png")[0, ::4].tolist() == [100 * v for v in row]
    assert read_label_values(tmp_path / "bits.png")[0, ::4].tolist() == [0, 1, 1, 1]


def test_colour_masks_need_a_colour(tmp_path: Path) -> None:
    colours = np.zeros((4, 8, 3), np.uint8)
    colours[:, 2:4] = (255, 102, 0)
    put(tmp_path / "mask.png", colours)
    stored = read_label_values(tmp_path / "mask.png")
    assert LabelMapping(parse_values("#ff6600")).apply(stored)[0].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    with pytest.raises(Vl4adError, match=r"colour mask \(#000000, #ff6600\)"):
        LabelMapping(frozenset({1})).apply(stored)


WHITE, GREY, BLUE = (255, 255, 255), (128, 128, 128), (0, 0, 255)


@pytest.mark.parametrize("coloured", [False, True])
@pytest.mark.parametrize(
    ("anomaly", "void", "stored", "expected"),
    [
        ("#ffffff", "255", WHITE, 1),  # Anomaly wins over void.
        ("255", "255", WHITE, 1),
        ("#ffffff", "#808080", GREY, 255),
        ("#ffffff", "128", GREY, 255),
        ("#808080", "255", GREY, 1),
        ("128", "255", GREY, 1),
        ("#ff6600", "255", WHITE, 255),
        ("#ff6600", "255", GREY, 0),
    ],
)
def test_a_grey_means_the_same_whatever_else_is_in_the_file(
    anomaly: str, void: str, stored: tuple[int, int, int], expected: int, coloured: bool, tmp_path: Path
) -> None:
    mask = np.zeros((4, 8, 3), np.uint8)
    mask[:, 2:4] = stored
    mask[0, 7] = (200, 30, 20) if coloured else (0, 0, 0)
    put(tmp_path / "mask.png", mask)
    labels = LabelMapping(parse_values(anomaly), parse_values(void)).apply(read_label_values(tmp_path / "mask.png"))
    assert labels[1].tolist() == [0, 0, expected, expected, 0, 0, 0, 0]
    assert labels[0, 7] == 0


def test_blue_is_not_the_index_255(tmp_path: Path) -> None:
    mask = np.zeros((4, 8, 3), np.uint8)
    mask[:, 2:4] = BLUE
    put(tmp_path / "mask.png", mask)
    assert LabelMapping(parse_values("#ff6600")).apply(read_label_values(tmp_path / "mask.png")).max() == 0
    index = LabelMapping(parse_values("#0000ff")).apply(np.array([[0, 255]], np.int32))
    assert index.tolist() == [[0, 255]]


def test_two_files_of_one_name_are_named(tmp_path: Path) -> None:
    for part in ("test", "test_ood"):
        put(tmp_path / part / "images" / "x.jpg", RED)
        put(tmp_path / part / "labels" / "x.png", values(0, 12))
    with pytest.raises(Vl4adError, match=r"two files for 'x' of CamVid-OOD, test/images/x\.jpg and test_ood/images/x"):
        DatasetSource(tmp_path, layout("camvid_ood"))
    (tmp_path / "test_ood" / "images" / "x.jpg").unlink()
    with pytest.raises(Vl4adError, match=r"test/labels/x\.png and test_ood/labels/x\.png"):
        DatasetSource(tmp_path, layout("camvid_ood"))
    assert len(DatasetSource(tmp_path / "test", layout("camvid_ood"))) == 1
    for part in ("test", "test_ood"):
        put(tmp_path / part / "images" / "y.jpg", RED)
    (tmp_path / "test_ood" / "labels" / "x.png").unlink()
    assert DatasetSource(tmp_path, layout("camvid_ood")).problems == [
        "1 images have no label and are left out: y.",
        "1 files without a partner have the name of another one and are left out: test_ood/images/y.jpg.",
    ]


@pytest.mark.parametrize("text", ["a", "1-", "#12", "#gggggg"])
def test_wrong_values_are_named(text: str) -> None:
    with pytest.raises(Vl4adError, match="is no label value"):
        parse_values(text)
    assert parse_values("1, 3-5,#0000ff") == {1, 3, 4, 5, COLOUR | 0x0000FF}  # Blue is not the index 255.


def test_a_folder_from_the_command_line_with_a_mapping(folder: Path, mock_bundle: Path, tmp_path: Path) -> None:
    options = ["--bundle", str(mock_bundle), "--prompt-set", "traffic_ood", "--track", "obstacle"]
    out = tmp_path / "out"
    assert main(["evaluate", "dataset", "folder", str(folder), "--anomaly", "1", *options, "--out", str(out)]) == 0
    first = json.loads((out / "result.json").read_text())
    assert first["source"]["listing_sha256"]
    # With the labels' meaning turned round, what was found is now missed.
    turned = ["--anomaly", "0", "--normal", "1"]
    assert main(["evaluate", "dataset", "folder", str(folder), *turned, *options, "--out", str(out)]) == 0
    second = json.loads((out / "result.json").read_text())
    assert second["pixel"]["positives"] == first["pixel"]["negatives"]
    assert second["pixel"]["auroc"] == pytest.approx(1 - first["pixel"]["auroc"], abs=1e-6)


def test_the_submission_has_the_evaluators_layout(mock_bundle: Path, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed (extra: eval)")
    root = tmp_path / "data"
    for name in ("validation_1", "test_1"):
        put(root / "images" / f"{name}.jpg", np.tile(RED, (4, 6, 1)))
    put(root / "labels_masks" / "validation_1_labels_semantic.png", np.tile(values(0, 1), (4, 6)))
    options = ["--bundle", str(mock_bundle), "--out", str(tmp_path / "out"), "--submission", str(tmp_path / "sub")]
    assert main(["evaluate", "dataset", "road_anomaly_21", str(root), *options]) == 0
    files = sorted(path.relative_to(tmp_path / "sub").as_posix() for path in (tmp_path / "sub").rglob("*.hdf5"))
    assert files == [f"anomaly_p/vl4ad_ros/AnomalyTrack-all/{name}.hdf5" for name in ("test_1", "validation_1")]
    with h5py.File(tmp_path / "sub" / files[0]) as file:
        assert (file["value"].shape, file["value"].dtype) == ((48, 96), np.float16)


def run_arrays(path: Path, cli: Cli, *options: str) -> dict[str, object]:
    result: dict[str, object] = json.loads(cli("evaluate", "arrays", path, "--json", *options))
    return result


def test_arrays_give_the_golden_figures(shared_dir: Path, cli: Cli) -> None:
    golden = shared_dir / "golden" / "smiyc_metrics"
    expected = json.loads((golden / "expected.json").read_text())
    result = run_arrays(golden / "frames.npz", cli, "--threshold", "0.6", "--track", "obstacle")
    for key, value in expected["exact"].items():
        assert result[key] == pytest.approx(value, abs=1e-9)
    for key in ("tp", "fn", "fp"):
        assert result[key] == expected["obstacle_track@0.6"][key]
    for key in ("sIoU_gt", "prec_pred", "f1_mean"):
        assert result[key] == pytest.approx(expected["obstacle_track@0.6"][key], abs=1e-9)


def test_arrays_without_a_threshold_take_that_of_the_best_f1(tmp_path: Path, cli: Cli) -> None:
    labels = np.zeros((2, 40, 40), np.uint8)
    labels[:, 5:30, 5:30] = 1
    scores = np.where(labels == 1, 0.7, 0.2).astype(np.float32)
    np.savez(tmp_path / "frames.npz", labels=labels, scores=scores)
    result = run_arrays(tmp_path / "frames.npz", cli)
    assert (result["ap"], result["f1_mean"], result["fp"]) == (1.0, 1.0, [0] * 11)
    assert result["threshold"] == pytest.approx(0.7, abs=1e-6)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"labels": np.zeros((1, 2, 2), np.uint8)}, r"lacks the arrays \['scores'\]; it has \['labels'\]"),
        ({"labels": np.zeros((1, 2, 2), np.uint8), "scores": np.zeros((1, 2, 3))}, "must both be NxHxW"),
        ({"labels": np.full((1, 2, 2), 9, np.uint8), "scores": np.zeros((1, 2, 2))}, r"found \[9\]"),
        ({"labels": np.zeros((1, 2, 2), np.uint8), "scores": np.full((1, 2, 2), np.nan)}, "NaN"),
        ({"labels": np.zeros((1, 2, 2)), "scores": np.zeros((1, 2, 2))}, "whole numbers"),
        ({"labels": np.zeros((1, 2, 0), np.uint8), "scores": np.zeros((1, 2, 0))}, "must both be NxHxW"),
        ({"labels": np.zeros((1, 2, 2), np.uint8), "scores": np.full((1, 2, 2), "a")}, "scores must be numbers"),
    ],
)
def test_wrong_arrays_are_one_sentence(
    arrays: dict[str, NDArray[np.generic]], sentence: str, tmp_path: Path, cli: Cli
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)  # type: ignore[arg-type]
    assert re.search(sentence, cli.error("evaluate", "arrays", tmp_path / "x.npz"))


def test_files_that_are_no_npz_are_named(tmp_path: Path, cli: Cli) -> None:
    np.savez_compressed(tmp_path / "good.npz", labels=np.zeros((4, 20, 20), np.uint8), scores=np.random.rand(4, 20, 20))
    whole = (tmp_path / "good.npz").read_bytes()
    spoilt = whole[:-400] + bytes(40) + whole[-360:]
    np.save(tmp_path / "one.npy", np.zeros(3))
    for content in (b"", whole[: len(whole) // 2], spoilt, (tmp_path / "one.npy").read_bytes()):
        (tmp_path / "x.npz").write_bytes(content)
        assert "x.npz: cannot be read" in cli.error("evaluate", "arrays", tmp_path / "x.npz")


def two_frames() -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    rng = np.random.default_rng(4)
    labels = rng.choice(np.array([0, 1, 255], np.uint8), size=(2, 30, 40), p=[0.7, 0.2, 0.1])
    labels[:, 5:20, 5:20] = 1
    return labels, np.round(rng.random((2, 30, 40)) + 0.4 * (labels == 1), 2)


@pytest.mark.parametrize("kind", ["uint8", "int64", "uint64", "float64"])
def test_scores_of_any_type_keep_their_order(kind: str, tmp_path: Path, cli: Cli) -> None:
    labels, scores = two_frames()
    np.savez(tmp_path / "plain.npz", labels=labels, scores=scores.astype(np.float32))
    # The same order; but for uint8, too fine for float32.
    whole = np.round(100 * scores).astype(np.int64)
    other = {
        "uint8": whole.astype(np.uint8),
        "int64": (1 << 60) - 200 + whole,
        "uint64": np.uint64((1 << 64) - 300) + whole.astype(np.uint64),
        "float64": 1e300 * (1 + whole * 1e-12),
    }[kind]
    np.savez(tmp_path / "other.npz", labels=labels, scores=other)
    plain = run_arrays(tmp_path / "plain.npz", cli, "--track", "obstacle")
    found = run_arrays(tmp_path / "other.npz", cli, "--track", "obstacle")
    for figures in (plain, found):
        assert figures["interval_95"]
        for name in ("threshold", "best_f1_threshold", "fpr95_threshold"):
            del figures[name]
    assert found == plain


def test_without_anomalies_there_is_no_threshold(tmp_path: Path, cli: Cli) -> None:
    labels, scores = two_frames()
    np.savez(tmp_path / "x.npz", labels=labels * 0, scores=scores)
    assert run_arrays(tmp_path / "x.npz", cli)["threshold"] is None
    assert "finite" in cli.error("evaluate", "arrays", tmp_path / "x.npz", "--threshold", "nan")


@pytest.mark.parametrize("inside", ["", "bottle"])
def test_product_inspection_has_image_and_region_figures(inside: str, mock_bundle: Path, tmp_path: Path) -> None:
    root = tmp_path / "mvtec"
    for kind in ("good", "broken"):
        for place in ("train/good", f"test/{kind}", f"ground_truth/{kind}"):
            (root / "bottle" / place).mkdir(parents=True, exist_ok=True)
    clean = np.full((64, 96, 3), (0, 0, 255), np.uint8)  # Red in OpenCV's order: a class of the mock network.
    defect, mask = clean.copy(), np.zeros((64, 96), np.uint8)
    defect[16:48, 32:64], mask[16:48, 32:64] = (255, 0, 0), 255
    for index in range(2):
        cv2.imwrite(str(root / f"bottle/train/good/{index:03}.png"), clean)
        cv2.imwrite(str(root / f"bottle/test/good/{index:03}.png"), clean)
        cv2.imwrite(str(root / f"bottle/test/broken/{index:03}.png"), defect)
        cv2.imwrite(str(root / f"bottle/ground_truth/broken/{index:03}_mask.png"), mask)
    out = tmp_path / "out"
    options = ["--bundle", str(mock_bundle), "--prompt-set", "traffic", "--out", str(out)]
    assert main(["evaluate", "dataset", "mvtec", str(root / inside), *options]) == 0
    result = json.loads((out / "result.json").read_text())
    assert (result["frames"]["evaluated"], result["frames"]["with_anomalies"], result["problems"]) == (4, 2, [])
    assert result["image"] == {"auroc": 1.0, "ap": 1.0, "best_f1": 1.0}
    assert result["pro"] > 0.9


def test_visa_counts_the_test_pictures_of_its_split(tmp_path: Path) -> None:
    root = tmp_path / "visa"
    rows = ["object,split,label,image,mask"]
    for kind, count in (("Normal", 3), ("Anomaly", 2)):
        for index in range(count):
            image, mask = f"candle/Data/Images/{kind}/{index:03}.JPG", f"candle/Data/Masks/{kind}/{index:03}.png"
            for name in (image, *([mask] if kind == "Anomaly" else [])):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / name), np.full((16, 16), 3, np.uint8))
            split = "train" if kind == "Normal" and index else "test"
            rows.append(f"candle,{split},{kind.lower()},{image},{mask if kind == 'Anomaly' else ''}")
    with pytest.raises(Vl4adError, match=r"split_csv/1cls\.csv"):
        DatasetSource(root, layout("visa"))
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text("\n".join(rows))
    for place in (root, root / "candle"):
        source = DatasetSource(place, layout("visa"))
        labels = [frame.labels for frame in source.frames(range(len(source)))]
        assert [int(label.max()) for label in labels if label is not None] == [1, 1, 0]


def test_region_overlap_of_known_cases() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[2:6, 2:6], labels[10:12, 10:12] = 1, 1
    perfect = labels.astype(np.float32)
    blind = perfect.copy()
    blind[10:12, 10:12] = 0  # The small region counts as much as the large one.
    for scores, expected in ((perfect, 1.0), (blind, 0.5 + 0.5 * 0.3 / 2)):
        counts = histograms.fold(count_levels(scores, labels))
        assert histograms.region_overlap(histograms.count_regions(scores, labels), counts[0]) == pytest.approx(expected)
