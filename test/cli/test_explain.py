from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from run_cli import Cli

from vl4ad_ros.cli.main import main


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "noise.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (176, 320, 3), dtype=np.uint8))
    return path


def test_a_place_is_explained_by_its_nearest_concepts(picture: Path, cli: Cli) -> None:
    found = json.loads(cli("explain", picture, "--at", "100,80", "--count", "3", "--json"))
    assert len(found["concepts"]) == 3
    assert found["uncertainty"] == pytest.approx(1 - found["posterior"])
    text = cli("explain", picture, "--at", "100,80", "--threshold", "0", "--count", "3")
    assert "an anomaly" in text
    for near in found["concepts"]:
        assert near["concept"] in text


def test_detect_explains_each_region(picture: Path, tmp_path: Path) -> None:
    assert main(["detect", str(picture), "--out", str(tmp_path / "out"), "--explain", "--threshold", "0.01"]) == 0
    (entry,) = json.loads((tmp_path / "out" / "result.json").read_text())["pictures"]
    assert entry["regions"]
    assert all(region["explanation"]["concepts"] for region in entry["regions"])
