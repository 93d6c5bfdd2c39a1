from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mock_bundle import red_uncertainty

from vl4ad_ros.cli.main import main
from vl4ad_ros.io.files import sha256_file

RED = (255, 0, 0)
BLUE = (0, 0, 255)


def write(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (48, 64)) -> Path:
    picture = np.full((*size, 3), colour[::-1], dtype=np.uint8)
    picture[:, size[1] // 2 :] = BLUE[::-1]
    cv2.imwrite(str(path), picture)
    return path


def read(path: Path) -> np.ndarray[Any, Any]:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return np.asarray(pixels)


def detect(bundle: Path, out: Path, *arguments: object) -> int:
    return main(["detect", *map(str, arguments), "--out", str(out), "--bundle", str(bundle)])


def test_a_picture_becomes_map_mask_overlay_and_result(mock_bundle: Path, tmp_path: Path) -> None:
    picture = write(tmp_path / "half.png", RED)
    out = tmp_path / "out"
    # Red is known (the class "stop"), blue is as far from red as from green.
    assert detect(mock_bundle, out, picture, "--threshold", "0.4") == 0
    uncertainty = np.load(out / "half.uncertainty.npy")
    assert (uncertainty.dtype, uncertainty.shape) == (np.float32, (48, 64))
    assert uncertainty[:, :24] == pytest.approx(red_uncertainty(), abs=1e-5)
    assert uncertainty[:, 40:] == pytest.approx(0.5, abs=1e-5)
    mask = read(out / "half.mask.png")
    assert np.array_equal(mask, np.where(uncertainty >= 0.4, 255, 0))
    assert read(out / "half.overlay.jpg").shape == (48, 64, 3)
    result = json.loads((out / "result.json").read_text())
    assert result["engine"]["backend"] == "onnxruntime"
    assert result["engine"]["model_sha256"] == sha256_file(mock_bundle / "model.onnx")
    assert result["bundle"]["card_sha256"] == sha256_file(mock_bundle / "card.json")
    assert result["prompt_set"]["name"] == "traffic"
    assert (result["threshold"], result["scoring"], result["faults"]) == (0.4, "vl4ad", [])
    assert {"python", "onnxruntime", "numpy", "vl4ad_ros"} <= set(result["versions"])
    (entry,) = result["pictures"]
    assert entry["files"] == {
        "uncertainty": "half.uncertainty.npy", "mask": "half.mask.png", "overlay": "half.overlay.jpg"
    }  # fmt: skip
    # The largest hundredth lies in the blue half.
    assert entry["image_score"] == pytest.approx(0.5, abs=1e-5)
    assert (result["method"], result["random_word"]) == ("vl4ad", None)
    assert entry["mask_share"] == pytest.approx(float((mask > 0).mean()))
    assert set(entry["latency_ms"]) == {"preprocess", "engine", "postprocess"}


def test_png16_holds_the_same_map(mock_bundle: Path, tmp_path: Path) -> None:
    picture = write(tmp_path / "half.png", RED)
    assert detect(mock_bundle, tmp_path / "npy", picture) == 0
    assert detect(mock_bundle, tmp_path / "png", picture, "--format", "png16", "--no-overlay") == 0
    stored = read(tmp_path / "png/half.uncertainty.png")
    assert stored.dtype == np.uint16
    exact = np.load(tmp_path / "npy/half.uncertainty.npy")
    assert np.abs(stored / 65535.0 - exact).max() <= 0.5 / 65535 + 1e-7
    assert not list((tmp_path / "png").glob("*.overlay.jpg"))


def test_folders_and_videos_are_taken_apart_and_keep_their_sizes(mock_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "a.png", RED)
    write(folder / "b.jpg", RED, (40, 40))
    (folder / "notes.txt").write_text("no picture")
    video = cv2.VideoWriter(str(folder / "c.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(3):
        video.write(np.full((48, 64, 3), 200, np.uint8))
    video.release()
    other = write(tmp_path / "a.png", BLUE)
    out = tmp_path / "out"
    assert detect(mock_bundle, out, folder, other) == 0
    sizes = {path.name.split(".")[0]: np.load(path).shape for path in out.glob("*.npy")}
    frames = {f"c_{i:06d}": (48, 64) for i in range(3)}
    assert sizes == {"a": (48, 64), "b": (40, 40), "a_2": (48, 64), **frames}


def test_prompt_set_and_scoring_are_obeyed(mock_bundle: Path, tmp_path: Path) -> None:
    picture = write(tmp_path / "red.png", RED)
    arguments = ("--prompt-set", "merged", "--scoring", "max_logit")
    assert detect(mock_bundle, tmp_path / "out", picture, *arguments) == 0
    # The largest cosine of red to the class "light" (red or green) is 1.
    assert np.load(tmp_path / "out/red.uncertainty.npy")[:, :24] == pytest.approx(0, abs=1e-5)
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert (result["prompt_set"]["name"], result["scoring"]) == ("merged", "max_logit")
