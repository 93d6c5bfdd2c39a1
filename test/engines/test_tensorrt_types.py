"""The calls into TensorRT, checked against its published type stubs."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = (
    "vl4ad_ros/runtime/tensorrt_library.py",
    "vl4ad_ros/runtime/tensorrt_engine.py",
    "vl4ad_ros/runtime/tensorrt_builder.py",
)


def mended_stubs(target: Path) -> Path:
    """Copy the stubs of `tensorrt-stubs`, without their faults of syntax (a parameter `in`, a default before none)."""
    spec = importlib.util.find_spec("tensorrt_stubs")
    if spec is None or spec.origin is None:
        pytest.skip("tensorrt-stubs is not installed (pip install --no-deps tensorrt-stubs)")
    source = Path(spec.origin).parent.parent
    for package in ("tensorrt", "tensorrt_bindings"):
        (target / package).mkdir(parents=True)
        for stub in (source / package).glob("*.pyi"):
            text = re.sub(r"\bin: list\[", "in_: list[", stub.read_text(encoding="utf-8"))
            text = text.replace("channel_axis: int) -> IScaleLayer", "channel_axis: int = ...) -> IScaleLayer")
            (target / package / stub.name).write_text(text, encoding="utf-8")
    return target


def check(stubs: Path, files: list[str]) -> subprocess.CompletedProcess[str]:
    config = stubs / "mypy.ini"
    config.write_text(
        f"[mypy]\nmypy_path = {stubs}\nexplicit_package_bases = True\nignore_missing_imports = True\n"
        "check_untyped_defs = True\nfollow_imports = silent\n[mypy-torch.*]\nfollow_imports = skip\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), "--cache-dir", str(stubs / "cache"), *files]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_our_calls_fit_the_stubs_and_wrong_ones_do_not(tmp_path: Path) -> None:
    stubs = mended_stubs(tmp_path / "stubs")
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import tensorrt as trt\n\n\ndef build(logger: trt.ILogger) -> trt.IHostMemory:\n"
        "    builder = trt.Builder(logger)\n    return builder.build_engine_of_old(1)\n"
    )
    result = check(stubs, [*MODULES, str(wrong)])
    lines = [line for line in result.stdout.splitlines() if "error:" in line]
    # The stubs have errors of their own; ours are what counts.
    assert [line for line in lines if line.startswith("vl4ad_ros")] == []
    assert any("build_engine_of_old" in line for line in lines), result.stdout + result.stderr
