"""Counts, rates and latencies of a camera, for diagnostics. Knows no ROS type."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

# What a frame's time goes to, then two sums: all of it without the engine, and now minus the frame's stamp.
STAGES = ("wait", "decode", "preprocess", "engine", "postprocess", "publish", "outside_engine", "age")
# Latencies are of the newest so many frames, rates of the last so many seconds.
KEEP_FRAMES = 256
RATE_WINDOW_S = 5.0


class Rate:
    """Events per second over the last `RATE_WINDOW_S` seconds."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=4096)
        self._since = time.monotonic()

    def tick(self) -> None:
        """Count an event, now."""
        self._times.append(time.monotonic())

    def value(self) -> float:
        """Return the rate in Hz."""
        now = time.monotonic()
        while self._times and self._times[0] < now - RATE_WINDOW_S:
            self._times.popleft()
        window = min(RATE_WINDOW_S, now - self._since)
        return len(self._times) / window if window > 0 else 0.0


@dataclass(frozen=True)
class Summary:
    """A camera's statistics at one moment.

    Attributes:
        rate_in: Frames received per second.
        rate_out: Results published per second.
        totals: Counted events by cause, since activation.
        recent: The same since the summary before.
        median_ms: Stage -> median duration.
        p95_ms: Stage -> 95th percentile of the duration.
        silent_s: Seconds since the last frame, or since activation.
    """

    rate_in: float
    rate_out: float
    totals: Mapping[str, int]
    recent: Mapping[str, int]
    median_ms: Mapping[str, float]
    p95_ms: Mapping[str, float]
    silent_s: float


@dataclass
class CameraStats:
    """Counts what happens to a camera's frames; safe to use from several threads.

    Causes: `received`, `published`; dropped: `replaced` (a newer frame came before its turn), `nobody listens`,
    `disabled`, `max_rate`, `lost in transport`; unusable: `bad: <cause>`; worth knowing: `zero stamp`,
    `time jumped back`, `no /clock`, `stamp ahead of the clock`, `camera_info does not fit`, `engine error`.
    """

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _counts: Counter[str] = field(default_factory=Counter)
    _reported: Counter[str] = field(default_factory=Counter)
    _in: Rate = field(default_factory=Rate)
    _out: Rate = field(default_factory=Rate)
    _stages: dict[str, deque[float]] = field(
        default_factory=lambda: {stage: deque(maxlen=KEEP_FRAMES) for stage in STAGES}
    )
    _last: float = field(default_factory=time.monotonic)

    def received(self) -> None:
        """Count a message that came in."""
        with self._lock:
            self._counts["received"] += 1
            self._in.tick()
            self._last = time.monotonic()

    def published(self, milliseconds: Mapping[str, float]) -> None:
        """Count a result that went out, with the durations of its stages."""
        with self._lock:
            self._counts["published"] += 1
            self._out.tick()
            for stage, value in milliseconds.items():
                self._stages[stage].append(value)

    def count(self, cause: str, number: int = 1) -> None:
        """Count something else."""
        with self._lock:
            self._counts[cause] += number

    def forget_age(self) -> None:
        """Drop the ages so far, which a jump of the clock has made meaningless."""
        with self._lock:
            self._stages["age"].clear()

    def summary(self) -> Summary:
        """Return the statistics, and begin a new `recent` period."""
        with self._lock:
            recent = self._counts - self._reported
            self._reported = self._counts.copy()
            filled = {stage: np.array(values) for stage, values in self._stages.items() if values}
            return Summary(
                rate_in=self._in.value(),
                rate_out=self._out.value(),
                totals=dict(self._counts),
                recent=dict(recent),
                median_ms={stage: float(np.median(values)) for stage, values in filled.items()},
                p95_ms={stage: float(np.percentile(values, 95)) for stage, values in filled.items()},
                silent_s=time.monotonic() - self._last,
            )
