"""Going on from a checkpoint, and several processes that train like one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gradient_run import one_step
from tiny_run import make_config, make_trainer

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.training.checkpoint import BEST, LAST, load_checkpoint
from vl4ad_ros.training.processes import Group
from vl4ad_ros.training.report import CURVE_FILE, RunReport

SCRIPT = Path(__file__).parents[1] / "killed_run.py"


class Losses(RunReport):
    """A report that also keeps the loss of each step."""

    losses: dict[int, float]

    def listen(self, step: int, figures: dict[str, float]) -> None:
        super().listen(step, figures)
        self.losses |= {step: figures["loss"]} if "loss" in figures else {}


def run(data: Path, output: Path) -> dict[int, float]:
    """Losses of the steps that are left of a run."""
    config = make_config(data, output)
    report = Losses(config)
    report.losses = {}
    trainer = make_trainer(config, report=report)
    trainer.resume()
    trainer.run()
    return report.losses


def curve_of(output: Path) -> list[dict[str, float]]:
    """The curve's lines without what depends on the clock."""
    lines = [json.loads(line) for line in (output / CURVE_FILE).read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("time", "images_per_second")} for line in lines]


def test_a_killed_run_goes_on_exactly(tmp_path: Path, tiny_data: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, str(SCRIPT), str(tiny_data), str(parts)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        try:
            losses = run(tiny_data, whole)
            assert killed.stdout is not None
            assert killed.stdout.readline() == "waiting\n"
        finally:
            killed.kill()
    assert load_checkpoint(parts / LAST).step == 3
    assert run(tiny_data, parts) == {step: losses[step] for step in (4, 5, 6)}
    assert [line["step"] for line in curve_of(whole)] == [6, 6], "the mean of all six steps, and a validation"
    assert curve_of(whole) == curve_of(parts)
    one, other = load_checkpoint(whole / LAST), load_checkpoint(parts / LAST)
    for weights, others in ((one.learner, other.learner), (one.averaged, other.averaged)):
        assert weights.keys() == others.keys()
        assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert one.best == other.best
    assert load_checkpoint(whole / BEST).figures["choice"] == one.best[0]


def test_other_settings_refuse_the_checkpoint_but_more_steps_do_not(tmp_path: Path, tiny_data: Path) -> None:
    make_trainer(make_config(tiny_data, tmp_path)).save({}, LAST)
    longer = make_config(tiny_data, tmp_path, optimizer={"steps": 50, "warmup": 2, "cooldown": 9})
    assert make_trainer(longer).resume()
    with pytest.raises(Vl4adError, match="other settings of 'losses'"):
        make_trainer(make_config(tiny_data, tmp_path, losses={"names": 0.1})).resume()


def test_older_checkpoints_are_read(tmp_path: Path, tiny_data: Path) -> None:
    """They lack the window, and settings that came later."""
    config = make_config(tiny_data, tmp_path)
    make_trainer(config).save({}, LAST)
    content = torch.load(tmp_path / LAST, weights_only=True)
    del content["window"], content["setup"]["precision"], content["setup"]["optimizer"]["descent"]
    torch.save(content, tmp_path / LAST)
    report = RunReport(config)
    report.window = {"loss": [1.0]}
    assert make_trainer(config, report=report).resume()
    assert report.window == {}


@pytest.mark.parametrize("content", [b"half a file", b""])
def test_a_broken_checkpoint_is_named(tmp_path: Path, tiny_data: Path, content: bytes) -> None:
    (tmp_path / LAST).write_bytes(content)
    with pytest.raises(Vl4adError, match=r"last\.pt: unreadable checkpoint"):
        make_trainer(make_config(tiny_data, tmp_path)).resume()


def test_two_processes_have_the_gradient_of_one(tmp_path: Path, tiny_data: Path) -> None:
    # It finds a port by itself.
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, str(SCRIPT.with_name("gradient_run.py")), str(tiny_data), str(tmp_path)]
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE) as process:
        alone = one_step(tiny_data, tmp_path, Group())
        _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    for rank in range(2):
        together = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        assert set(together) == set(alone)
        for name, value in together.items():
            scale = max(1e-3, float(alone[name].abs().max()))
            assert torch.allclose(value, alone[name], rtol=0, atol=1e-5 * scale), name
