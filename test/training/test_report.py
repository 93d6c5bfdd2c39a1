"""The curve of a run."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tiny_run import make_config

from vl4ad_ros.training.report import CURVE_FILE, CURVE_PICTURE, RunReport, draw_curve


def test_the_curve_is_written_and_drawn(tmp_path: Path, tiny_data: Path) -> None:
    report = RunReport(make_config(tiny_data, tmp_path))
    report.start(0)
    for step in range(1, 21):
        report.listen(step, {"loss": 10.0 / step, "loss/classes": 5.0 / step})
    report.listen(10, {"miou/camvid": 0.5, "choice": 0.5})
    report.listen(20, {"miou/camvid": 0.75, "choice": 0.75})
    report.close()
    drawn = ElementTree.fromstring((tmp_path / CURVE_PICTURE).read_text())
    texts = [node.text for node in drawn.iter() if node.tag.endswith("text")]
    assert {"loss", "loss/classes", "percent", "step"} <= set(texts)
    assert "miou/camvid" not in texts, "one line needs no legend"


def test_repeated_steps_and_half_lines_count_once(tmp_path: Path, tiny_data: Path) -> None:
    path, once = tmp_path / CURVE_FILE, tmp_path / "once.jsonl"
    path.write_bytes(b'{"step": 10, "loss": 9}\n{"step": 10, "loss": 2}\n{"step": 20, "lo\xc3')
    once.write_text('{"step": 10, "loss": 2}\n')
    assert draw_curve(path) == draw_curve(once)
    # The next line does not hang on to the half one.
    RunReport(make_config(tiny_data, tmp_path)).listen(20, {"loss": 1.0})
    once.write_text('{"step": 10, "loss": 2}\n{"step": 20, "loss": 1}\n')
    assert draw_curve(path) == draw_curve(once)


def test_a_run_that_is_lengthened_goes_on_in_mid_window(tmp_path: Path, tiny_data: Path) -> None:
    window: dict[str, list[float]] = {}
    for steps in (6, 12):
        optimizer = {"steps": steps, "warmup": 0, "cooldown": 0}
        report = RunReport(make_config(tiny_data, tmp_path, optimizer=optimizer))
        report.window = window
        for step in range(1 if steps == 6 else 7, steps + 1):
            report.listen(step, {"loss": float(step)})
    lines = [json.loads(line) for line in (tmp_path / CURVE_FILE).read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(6, 3.5), (10, 5.5), (12, 11.5)]
