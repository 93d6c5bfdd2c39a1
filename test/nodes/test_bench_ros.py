"""`vl4ad bench ros` on the mock bundle: its figures are there, and add up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vl4ad_ros.cli.main import main


def test_figures_of_a_null_engine(mock_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--bundle", str(mock_bundle), "--width", "96", "--height", "64", "--frames", "8", "--json"]
    assert main(["bench", "ros", *given]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    stages = result["stages_ms"]
    assert result["outside_engine_ms_median"] == stages["outside_engine"]["median"] > 0
    assert (result["width"], result["height"], result["frames"], result["backend"]) == (96, 64, 8, "null")
    # Part of each round trip; a frame whose maps came too late for one may be among the former only.
    assert stages["outside_engine"]["median"] < stages["round_trip"]["p95"]
    assert {"wait", "decode", "preprocess", "engine", "postprocess", "publish", "age"} <= set(stages)
    assert result["hardware"]["cpu"]
