"""The package as colcon and pip see it, and what may be imported where."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import cv2
import pytest

import vl4ad_ros

ROOT = Path(__file__).resolve().parents[2]
VEHICLE_ROOMS = ("io", "runtime", "nodes", "drive")
ROS_FREE_ROOMS = ("io", "runtime", "prompts", "network", "training", "random_word", "evaluation", "drive", "cli")


def modules(*rooms: str) -> list[str]:
    """Return the top modules of the package and every module of the given rooms."""
    files = [*(ROOT / "vl4ad_ros").glob("*.py"), *(p for r in rooms for p in (ROOT / "vl4ad_ros" / r).glob("*.py"))]
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in files}
    return sorted(names)


def import_without(blocked: tuple[str, ...], names: list[str]) -> str:
    """Import modules in a fresh interpreter in which the blocked libraries do not exist; return what it says."""
    code = (
        f"import sys, importlib\n"
        f"for b in {blocked!r}: sys.modules[b] = None\n"
        f"for m in {names!r}: importlib.import_module(m)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    return done.stderr if done.returncode else ""


def test_versions_agree() -> None:
    in_xml = ET.parse(ROOT / "package.xml").getroot().findtext("version")
    in_setup = re.search(r'^VERSION = "(.+)"$', (ROOT / "setup.py").read_text(), re.MULTILINE)
    assert in_setup is not None
    assert in_xml == in_setup.group(1) == vl4ad_ros.__version__


def test_package_is_ament_python_with_its_marker() -> None:
    root = ET.parse(ROOT / "package.xml").getroot()
    assert root.findtext("export/build_type") == "ament_python"
    assert root.findtext("name") == "vl4ad_ros"
    assert (ROOT / "resource" / "vl4ad_ros").is_file()
    scripts = (ROOT / "setup.cfg").read_text()
    assert "install_scripts=$base/lib/vl4ad_ros" in scripts


def test_core_imports_without_ros() -> None:
    assert import_without(("rclpy",), modules(*ROS_FREE_ROOMS)) == ""


def test_vehicle_path_imports_without_torch() -> None:
    pytest.importorskip("rclpy", reason="the ros extra is not installed")
    blocked = ("torch", "torchvision", "transformers", "open_clip", "sentence_transformers", "pickle5")
    assert import_without(blocked, modules(*VEHICLE_ROOMS)) == ""


def test_wheel_carries_what_the_package_needs_at_run_time(tmp_path: Path) -> None:
    # A copy: the build leaves folders behind, and would pack what earlier builds left.
    source = tmp_path / "source"
    left_out = shutil.ignore_patterns(".git", ".venv*", "build", "out", "runs", "*.egg-info", ".*_cache", "__pycache__")
    shutil.copytree(ROOT, source, ignore=left_out)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(tmp_path), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    share = f"vl4ad_ros-{vl4ad_ros.__version__}.data/data/share/vl4ad_ros"
    for folder in ("config", "launch", "models"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"{share}/{path.relative_to(ROOT)}" in names
    for path in (ROOT / "vl4ad_ros").rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            assert str(path.relative_to(ROOT)) in names, f"{path} is not in the wheel"
    assert f"{share}/package.xml" in names
    assert not any("sample" in n and n.endswith(".mcap") for n in names)
    # No such name as `detector` on the PATH of who installs by pip; `ros2 run` finds them where colcon puts them.
    (scripts,) = (zipfile.ZipFile(wheel).read(name).decode() for name in names if name.endswith("entry_points.txt"))
    assert re.findall(r"^(\w+) =", scripts, re.MULTILINE) == ["vl4ad"]
    command = ["egg_info", "install", "--prefix", str(tmp_path), "--single-version-externally-managed", "--record", "r"]
    install = [sys.executable, "setup.py", "--quiet", *command]
    done = subprocess.run(install, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "lib" / "vl4ad_ros").iterdir()} == {"vl4ad", "detector", "overlay"}


def test_the_picture_of_the_drive_has_three_panels_a_frame(tmp_path: Path) -> None:
    out = tmp_path / "drive.jpg"
    command = [sys.executable, str(ROOT / "scripts/drive_picture.py"), "--out", str(out), "--frames", "36", "84"]
    done = subprocess.run([*command, "--width", "160"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    picture = cv2.imread(str(out))
    assert picture is not None
    assert picture.shape == (2 * (90 + 4), 3 * (160 + 4), 3)
