"""The progress of a run: a progress bar, a curve file and its picture, TensorBoard."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from vl4ad_ros.evaluation.charts import Chart, Series, draw_charts
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import write_text
from vl4ad_ros.training.config import TrainConfig

CURVE_FILE = "curve.jsonl"
CURVE_PICTURE = "curve.svg"
CURVE_EVERY = 10
"""Steps between two lines of the curve file; losses in between are averaged."""


class RunReport:
    """Takes a run's figures."""

    def __init__(self, config: TrainConfig) -> None:
        # The figures since the last line of the curve; part of checkpoints, so that a resumed curve is the same.
        self.window: dict[str, list[float]] = {}
        self._steps, self._output = config.optimizer.steps, config.output
        self._bar: Any = None
        self._board: Any = None

    def start(self, step: int) -> None:
        """Open the progress bar and TensorBoard's log."""
        from torch.utils.tensorboard import SummaryWriter
        from tqdm import tqdm

        # A log file gets a line a minute instead of ten a second.
        interval = 0.5 if sys.stderr.isatty() else 60.0
        self._bar = tqdm(total=self._steps, initial=step, unit="step", mininterval=interval, dynamic_ncols=True)
        self._board = SummaryWriter(str(self._output / "tensorboard"))

    def listen(self, step: int, figures: dict[str, float]) -> None:
        """Take the figures of a step or of a validation."""
        if "choice" in figures:
            self._write(step, figures)
            return
        for name, value in figures.items():
            self.window.setdefault(name, []).append(value)
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
            self._bar.set_postfix(loss=f"{figures['loss']:.3f}", refresh=False)
        if step % CURVE_EVERY == 0 or step == self._steps:
            self._write(step, {name: sum(values) / len(values) for name, values in self.window.items()})
        # A last step in mid-window keeps its figures: the run may be lengthened.
        if step % CURVE_EVERY == 0:
            self.window.clear()

    def _write(self, step: int, figures: dict[str, float]) -> None:
        line = json.dumps({"step": step, "time": round(time.time(), 1), **{k: round(v, 5) for k, v in figures.items()}})
        self._output.mkdir(parents=True, exist_ok=True)
        path = self._output / CURVE_FILE
        try:
            with path.open("ab+") as file:
                # A kill may have left half a line; what follows must not hang on to it.
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    line = line if file.read(1) == b"\n" else "\n" + line
                file.write(line.encode() + b"\n")
        except OSError as error:
            raise Vl4adError(f"{path}: cannot be written ({error}).") from error
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Close bar and log, and draw the curve."""
        self._bar.close()
        self._board.close()
        write_text(self._output / CURVE_PICTURE, draw_curve(self._output / CURVE_FILE))


def draw_curve(path: Path) -> str:
    """Draw a curve file as SVG: the losses on the left, the validation figures (in percent) on the right.

    Where a resumed run went over steps again, the later lines count; half a line, as a kill leaves it, counts as none.
    """
    series: dict[str, dict[int, float]] = defaultdict(dict)
    for line in path.read_bytes().splitlines():
        try:
            figures = json.loads(line)
        except ValueError:
            continue
        for name, value in figures.items():
            series[name][figures["step"]] = value

    def lines(starts: tuple[str, ...], factor: float, dots: bool) -> list[Series]:
        return [
            Series(name, sorted(values), [factor * values[step] for step in sorted(values)], dots=dots)
            for name, values in sorted(series.items())
            if name.startswith(starts)
        ]

    charts = [Chart(lines(("loss",), 1, False), "step", "loss")]
    measured = lines(("miou/", "ap/"), 100, True)
    if measured:
        charts.append(Chart(measured, "step", "percent", y_range=(0, 100)))
    return draw_charts(charts) + "\n"
