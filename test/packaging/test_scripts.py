"""The scripts that the documentation names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2

ROOT = Path(__file__).resolve().parents[2]


def test_the_picture_of_the_drive_has_three_panels_a_frame(tmp_path: Path) -> None:
    out = tmp_path / "drive.jpg"
    command = [sys.executable, str(ROOT / "scripts/drive_picture.py"), "--out", str(out), "--frames", "36", "84"]
    done = subprocess.run([*command, "--width", "160"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    picture = cv2.imread(str(out))
    assert picture is not None
    assert picture.shape == (2 * (90 + 4), 3 * (160 + 4), 3)
