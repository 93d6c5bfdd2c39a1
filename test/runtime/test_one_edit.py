"""A setting is declared in one place: a line in the model, and it is there on every surface."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys, types
from pathlib import Path

name = "vl4ad_ros.runtime.settings"
source = Path(sys.argv[1], "vl4ad_ros/runtime/settings.py").read_text(encoding="utf-8")
place = "    scoring: Scoring"
assert place in source
line = '    dilation: int = setting(3, "Pixels by which the mask grows.", live=True, low=0, high=99)\\n'
settings = types.ModuleType(name)
sys.modules[name] = settings
exec(compile(source.replace(place, line + place), name, "exec"), settings.__dict__)

parameter = settings.BY_NAME["dilation"]
print("parameter", parameter.type_name, parameter.default, parameter.low, parameter.high, parameter.live)

sys.path[:0] = [str(Path(sys.argv[1], "scripts"))]
import generate_node_docs
print(next(row for row in generate_node_docs.tables()["parameters"].splitlines() if "`dilation`" in row))

sys.path[:0] = [str(Path(sys.argv[1], "test"))]
from launch_stand_in import LaunchFile, put_in_place
put_in_place(sys.modules.__setitem__)
print("launch", *[part.description for part in LaunchFile("detector").arguments() if part.positional[0] == "dilation"])

from vl4ad_ros.cli.main import main
main(["detect", "--help"])
sys.exit(main(["detect", "x.png", "--out", "o", "--dilation", "100"]))
"""


def test_a_setting_added_to_the_model_is_on_every_surface(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="the tables of the topics need rclpy")
    command = [sys.executable, "-c", SCRIPT, str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    lines = done.stdout.splitlines()
    assert "parameter integer 3 0 99 True" in lines, done.stderr
    assert "| `dilation` | integer | `3` | 0 to 99 | live | Pixels by which the mask grows. |" in lines
    assert any(line.startswith("launch Pixels by which the mask grows.") for line in lines)
    assert any("--dilation" in line and "[default: 3]" in line for line in lines)
    assert done.returncode == 2
    assert "--dilation" in done.stderr
