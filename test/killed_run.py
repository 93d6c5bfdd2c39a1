"""A run in a process of its own, saving at every step, for a test that kills it: arguments DATA, OUTPUT, GO_ON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import torch  # noqa: E402 - needs the path above
from tiny_run import make_config, make_trainer  # noqa: E402

from vl4ad_ros.training.report import RunReport  # noqa: E402

WAIT_AT = 3


def main() -> None:
    data, output, go_on = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "go-on"
    torch.set_num_threads(1)

    window: dict[str, list[float]] = {}
    config = make_config(data, output, checkpoint_minutes=1e-9)
    report = RunReport(config, window)

    def tell(step: int, figures: dict[str, float]) -> None:
        report.listen(step, figures)
        line = {"step": step, "loss": figures.get("loss"), "choice": figures.get("choice")}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        # The step after the last whole checkpoint: here the parent kills.
        while not go_on and step > WAIT_AT:
            time.sleep(0.05)

    trainer = make_trainer(config, listener=tell, window=window)
    trainer.resume()
    trainer.run()


if __name__ == "__main__":
    main()
