from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tiny_run import make_config, make_trainer

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.training.checkpoint import BEST, LAST, load_checkpoint
from vl4ad_ros.training.report import CURVE_FILE, RunReport

SCRIPT = Path(__file__).parents[1] / "killed_run.py"


@contextmanager
def started(data: Path, output: Path, mode: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(SCRIPT), str(data), str(output), mode]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def curve_of(output: Path) -> list[dict[str, float]]:
    """The curve's lines without what depends on the clock."""
    lines = [json.loads(line) for line in (output / CURVE_FILE).read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("time", "images_per_second")} for line in lines]


def test_a_killed_run_goes_on_exactly(tmp_path: Path, tiny_data: Path) -> None:
    losses: dict[int, float] = {}
    window: dict[str, list[float]] = {}
    config = make_config(tiny_data, tmp_path / "whole")
    report = RunReport(config, window)

    def tell(step: int, figures: dict[str, float]) -> None:
        report.listen(step, figures)
        if "loss" in figures:
            losses[step] = figures["loss"]

    make_trainer(config, listener=tell, window=window).run()

    with started(tiny_data, tmp_path / "killed", "wait") as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            if json.loads(line)["step"] == 4:
                break
    assert killed.returncode != 0
    assert load_checkpoint(tmp_path / "killed" / LAST).step == 3

    with started(tiny_data, tmp_path / "killed", "go-on") as again:
        output, _ = again.communicate()
    assert again.returncode == 0
    lines = [json.loads(line) for line in output.splitlines()]
    resumed = {line["step"]: line["loss"] for line in lines if line["loss"] is not None}
    assert list(resumed) == [4, 5, 6]
    assert resumed == {step: losses[step] for step in (4, 5, 6)}

    curve, other_curve = curve_of(tmp_path / "whole"), curve_of(tmp_path / "killed")
    assert [line["step"] for line in curve] == [6, 6], "the mean of all six steps, and a validation"
    assert curve == other_curve

    one, other = load_checkpoint(tmp_path / "whole" / LAST), load_checkpoint(tmp_path / "killed" / LAST)
    for part in ("learner", "averaged"):
        weights, others = getattr(one, part), getattr(other, part)
        assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert one.best == other.best
    assert load_checkpoint(tmp_path / "whole" / BEST).figures["choice"] == one.best[0]


def test_other_settings_refuse_the_checkpoint_but_more_steps_do_not(tmp_path: Path, tiny_data: Path) -> None:
    trainer = make_trainer(make_config(tiny_data, tmp_path))
    trainer.save({}, LAST)
    longer = make_config(tiny_data, tmp_path, optimizer={"steps": 50, "warmup": 2, "cooldown": 9})
    assert make_trainer(longer).resume()
    other = make_config(tiny_data, tmp_path, losses={"names": 0.1})
    with pytest.raises(Vl4adError, match="other settings of 'losses'"):
        make_trainer(other).resume()


def test_checkpoints_from_before_the_window_are_read(tmp_path: Path, tiny_data: Path) -> None:
    trainer = make_trainer(make_config(tiny_data, tmp_path))
    trainer.save({}, LAST)
    content = torch.load(tmp_path / LAST, weights_only=True)
    del content["window"]
    torch.save(content, tmp_path / LAST)
    again = make_trainer(make_config(tiny_data, tmp_path), window={"loss": [1.0]})
    assert again.resume()
    assert again.window == {}


def test_a_broken_checkpoint_is_named(tmp_path: Path, tiny_data: Path) -> None:
    (tmp_path / LAST).write_bytes(b"half a file")
    with pytest.raises(Vl4adError, match=r"last\.pt: unreadable checkpoint"):
        make_trainer(make_config(tiny_data, tmp_path)).resume()
