"""What a run tells while it goes: a progress line, a curve file and its picture, TensorBoard."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from vl4ad_ros.evaluation.charts import Chart, Series, draw_charts
from vl4ad_ros.training.config import TrainConfig

CURVE_FILE = "curve.jsonl"
CURVE_PICTURE = "curve.svg"
CURVE_EVERY = 10
"""Steps between two lines of the curve file; losses in between are averaged."""


class RunReport:
    """Listens to a trainer.

    Args:
        config: the run.
        window: where the figures since the last line are kept: the trainer's, which is part of its checkpoints.
    """

    def __init__(self, config: TrainConfig, window: dict[str, list[float]]) -> None:
        self._config = config
        self._window = window
        self._bar: Any = None
        self._board: Any = None

    def start(self, step: int) -> None:
        """Open the progress bar (on a terminal) and the log files."""
        from torch.utils.tensorboard import SummaryWriter
        from tqdm import tqdm

        self._config.output.mkdir(parents=True, exist_ok=True)
        steps = self._config.optimizer.steps
        # A log file gets a line a minute instead of ten a second.
        interval = 0.5 if sys.stderr.isatty() else 60.0
        self._bar = tqdm(total=steps, initial=step, unit="step", mininterval=interval, dynamic_ncols=True)
        self._board = SummaryWriter(str(self._config.output / "tensorboard"))

    def listen(self, step: int, figures: dict[str, float]) -> None:
        """Take the figures of a step or of a validation."""
        if "choice" in figures:
            self._write(step, figures)
            return
        for name, value in figures.items():
            self._window.setdefault(name, []).append(value)
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
        if step % CURVE_EVERY == 0 or step == self._config.optimizer.steps:
            means = {name: sum(values) / len(values) for name, values in self._window.items()}
            self._write(step, means)
            if self._bar is not None:
                self._bar.set_postfix(loss=f"{means['loss']:.3f}", refresh=False)
        # A last step in mid-window keeps its figures: the run may be lengthened.
        if step % CURVE_EVERY == 0:
            self._window.clear()

    def _write(self, step: int, figures: dict[str, float]) -> None:
        line = json.dumps({"step": step, "time": round(time.time(), 1), **{k: round(v, 5) for k, v in figures.items()}})
        self._config.output.mkdir(parents=True, exist_ok=True)
        with (self._config.output / CURVE_FILE).open("ab+") as file:
            # A kill may have left half a line; what follows must not hang on to it.
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else "\n" + line
            file.write(line.encode() + b"\n")
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Close bar and logs, and draw the curve."""
        if self._bar is not None:
            self._bar.close()
        if self._board is not None:
            self._board.close()
        (self._config.output / CURVE_PICTURE).write_text(draw_curve(self._config.output / CURVE_FILE), encoding="utf-8")


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError):
        return {}


def draw_curve(path: Path) -> str:
    """Draw a curve file: the losses on the left, the validation figures (in percent) on the right.

    Args:
        path: `curve.jsonl` of a run. Where a resumed run went over steps again, the later lines count; half a line, as
            a kill leaves it, counts as none.

    Returns:
        An SVG document.
    """
    lines = [line for line in map(_parsed, path.read_bytes().splitlines()) if line]
    validations = {line["step"]: line for line in lines if "choice" in line}
    losses = {line["step"]: line for line in lines if "loss" in line}

    def series(table: dict[int, dict[str, float]], name: str, factor: float, dots: bool) -> Series:
        steps = sorted(step for step, line in table.items() if name in line)
        return Series(name, steps, [factor * table[step][name] for step in steps], dots=dots)

    def names(table: dict[int, dict[str, float]], *starts: str) -> list[str]:
        return sorted({name for line in table.values() for name in line if name.startswith(starts)})

    left = Chart([series(losses, name, 1, False) for name in names(losses, "loss")], "step", "loss")
    measured = [series(validations, name, 100, True) for name in names(validations, "miou/", "generated/")]
    right = [Chart(measured, "step", "percent", y_range=(0, 100))] if measured else []
    return draw_charts([left, *right]) + "\n"
