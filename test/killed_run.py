"""A run that saves at every step and waits behind the fourth one, for a test that kills it there: DATA, OUTPUT."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import torch  # noqa: E402 - needs the path above
from tiny_run import make_config, make_trainer  # noqa: E402

from vl4ad_ros.training.report import RunReport  # noqa: E402


class Waiting(RunReport):
    def listen(self, step: int, figures: dict[str, float]) -> None:
        super().listen(step, figures)
        # The step after the last whole checkpoint: here the parent kills.
        if step == 4:
            sys.stdout.write("waiting\n")
            sys.stdout.flush()
            threading.Event().wait()


if __name__ == "__main__":
    torch.set_num_threads(1)
    config = make_config(Path(sys.argv[1]), Path(sys.argv[2]), checkpoint_minutes=1e-9)
    make_trainer(config, report=Waiting(config)).run()
