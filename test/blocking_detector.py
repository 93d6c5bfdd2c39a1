"""The detector node around an engine that is held up: a frame stays in work until the test lets it go.

VL4AD_GATE names a folder. In its call number N the engine makes the file `in_work_N` there and waits for `go_N`; where
there is a file `slow`, it takes so many seconds instead as that says.
Where the folder has `fails_to_open` or `fails_N`, opening or that call raises what nobody expects.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.nodes.detector import NAME, DetectorNode
from vl4ad_ros.nodes.executor import run_node
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.engine import create_engine

GATE = Path(os.environ["VL4AD_GATE"])
DEADLINE_S = 120.0


class HeldUpEngine:
    """A real engine behind a gate."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.info = engine.info
        self._calls = 0

    def infer(self, images: NDArray[np.uint8], prompts: Any) -> NDArray[np.float32]:
        self._calls += 1
        (GATE / f"in_work_{self._calls}").touch()
        end = time.monotonic() + DEADLINE_S
        if (GATE / "slow").exists():
            time.sleep(float((GATE / "slow").read_text()))
        while not (GATE / "slow").exists() and not (GATE / f"go_{self._calls}").exists() and time.monotonic() < end:
            time.sleep(0.01)
        if (GATE / f"fails_{self._calls}").exists():
            raise RuntimeError("the engine blew up")
        return np.asarray(self._engine.infer(images, prompts), dtype=np.float32)

    def close(self) -> None:
        self._engine.close()


def open_held_up(bundle: str, backend: str, threads: int, device_id: int, *_: object) -> Detector:
    if (GATE / "fails_to_open").exists():
        raise RuntimeError("the library blew up")
    loaded = ModelBundle.load(bundle)
    return Detector(loaded, HeldUpEngine(create_engine(loaded, backend, threads, device_id)))


if __name__ == "__main__":
    sys.exit(run_node(lambda: DetectorNode(open_held_up), NAME, None))
