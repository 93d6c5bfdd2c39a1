"""Timing a call, and saying it in percentiles."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Timing:
    """Durations of repeated calls, in milliseconds.

    Attributes:
        median_ms: Half of the calls were faster.
        p95_ms: 95 % were.
        p99_ms: 99 % were.
        cpu_ms: Processor time of this process for one call, over all threads, on average: what a busy machine does not
            change.
        calls: How many were measured.
    """

    median_ms: float
    p95_ms: float
    p99_ms: float
    cpu_ms: float
    calls: int

    def as_dict(self) -> dict[str, float]:
        """Return the fields as plain data for JSON."""
        return asdict(self)


def measure(call: Callable[[], object], calls: int, warm_up: int = 3) -> Timing:
    """Time a call that returns when its work is done.

    Args:
        call: What is measured.
        calls: How often, at least 1.
        warm_up: Calls before, which are not counted.
    """
    for _ in range(warm_up):
        call()
    durations = np.empty(calls)
    cpu = time.process_time()
    for index in range(calls):
        started = time.perf_counter()
        call()
        durations[index] = time.perf_counter() - started
    cpu = (time.process_time() - cpu) * 1e3 / calls
    median, p95, p99 = (round(float(v), 3) for v in np.percentile(durations * 1e3, (50, 95, 99)))
    return Timing(median, p95, p99, round(cpu, 3), calls)
