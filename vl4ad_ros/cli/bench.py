"""What the benches share: timing a call, and keeping the figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vl4ad_ros.io.files import write_json
from vl4ad_ros.io.provenance import provenance


@dataclass(frozen=True)
class Timing:
    """Durations of repeated calls, in milliseconds."""

    median_ms: float  # half of the calls were faster
    p95_ms: float  # 95 % were
    p99_ms: float  # 99 % were
    # Processor time of this process for one call, over all threads, on average: what a busy machine does not change.
    cpu_ms: float
    calls: int  # how many were measured

    def as_dict(self) -> dict[str, float]:
        """Return the fields as plain data for JSON."""
        return asdict(self)


def measure(call: Callable[[], object], calls: int, warm_up: int = 3, seconds: float = 0.0) -> Timing:
    """Time a call that returns when its work is done.

    Args:
        call: What is measured.
        calls: How often at least, at least 1.
        warm_up: Calls before, which are not counted.
        seconds: How long at least, so that a short call is not measured in one short moment of a busy machine.
    """
    for _ in range(warm_up):
        call()
    durations: list[float] = []
    cpu = time.process_time()
    begun = time.perf_counter()
    while len(durations) < calls or time.perf_counter() - begun < seconds:
        started = time.perf_counter()
        call()
        durations.append(time.perf_counter() - started)
    cpu = (time.process_time() - cpu) * 1e3 / len(durations)
    median, p95, p99 = (round(float(v) * 1e3, 3) for v in np.percentile(durations, (50, 95, 99)))
    return Timing(median, p95, p99, round(cpu, 3), len(durations))


def save(path: Path | None, figures: dict[str, Any]) -> None:
    """Write figures, versions and hardware as JSON, where a file is named."""
    if path is not None:
        write_json(path, {"provenance": provenance(), "figures": figures})
