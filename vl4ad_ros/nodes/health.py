"""A camera's statistics, and the diagnostics' judgement on them by the limits of the parameters. Knows no ROS type."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# What a frame's time goes to; a part of `publish`, tracks and distances where somebody hears of regions or obstacles;
# and two sums: all of it without the engine, and now minus the frame's stamp.
STAGES = ("wait", "decode", "preprocess", "engine", "postprocess", "publish", "obstacles", "outside_engine", "age")
# Latencies are of the newest so many frames, rates of the last so many seconds.
KEEP_FRAMES = 256
RATE_WINDOW_S = 5.0
OK, WARN, ERROR = 0, 1, 2
LOST = "lost in transport"
WARNINGS = (LOST, "zero stamp", "time jumped back", "no /clock", "stamp ahead of the clock", "camera_info does not fit")


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
    """A camera's statistics at one moment."""

    rate_in: float  # frames received per second
    rate_out: float  # results published per second
    totals: Mapping[str, int]  # counted events by cause, since activation
    recent: Mapping[str, int]  # the same since the summary before
    median_ms: Mapping[str, float]  # stage -> median duration
    p95_ms: Mapping[str, float]  # stage -> 95th percentile of the duration
    silent_s: float  # seconds since the last frame, or since activation


@dataclass
class CameraStats:
    """Counts what happens to a camera's frames; safe to use from several threads.

    Causes: `received`, `published`; dropped: `replaced` (a newer frame came before its turn), `nobody listens`,
    `disabled`, `max_rate`; unusable: `bad: <cause>`; `engine error`; and `WARNINGS`.
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


def lost_sentence(summary: Summary, reliability: str, choice: str) -> str:
    """Return how many frames were lost in transport since the last summary, and what helps; empty where none was.

    `reliability` is in force, `choice` is the parameter `image_reliability`.
    """
    number = summary.recent.get(LOST, 0)
    if not number:
        return ""
    sent = number + summary.recent.get("received", 0)
    profile = "give its driver config/fastdds.xml (docs/camera.md)"
    if reliability == "reliable":
        cure = f"{profile}, or a longer queue"
    elif choice == "best_effort":
        cure = f"set image_reliability to auto, or {profile}"
    else:
        cure = f"let its driver publish reliably, or {profile}"
    return f"{number} of the last {sent} images ({number / sent:.0%}) were lost in transport: {cure}."


def judge(summary: Summary, limits: Mapping[str, Any], listened_to: bool, source: str = "") -> tuple[int, str]:
    """Return the diagnostic level and one sentence; where nobody listens, rates and ages say nothing."""
    recent = summary.recent
    bad = {cause.removeprefix("bad: "): number for cause, number in recent.items() if cause.startswith("bad: ")}
    unusable = sum(bad.values())
    share = unusable / max(recent.get("received", 0), unusable, 1)
    age = summary.median_ms.get("age", 0.0)

    def level(limit: str, exceeds: Callable[[float], bool]) -> int:
        names = ((ERROR, "error"), (WARN, "warn"))
        return next((one for one, name in names if exceeds(limits[f"diagnostics.{limit.format(name)}"])), OK)

    faults = [
        (ERROR if recent.get("engine error") else OK, f"the engine failed on {recent.get('engine error')} frames"),
        (
            level("bad_input_{}_ratio", lambda limit: share > limit),
            f"{unusable} unusable frames ({max(bad, key=bad.__getitem__, default='')})",
        ),
        (
            level("silent_{}_s", lambda limit: 0 < limit < summary.silent_s),
            f"no frame for {summary.silent_s:.1f} s" + (f" ({source})" if source else ""),
        ),
    ]
    if listened_to and limits["enabled"]:
        faults += [
            (level("age_{}_ms", lambda limit: 0 < limit < age), f"results are {age:.0f} ms old"),
            (
                level("rate_{}_hz", lambda limit: summary.rate_out < limit),
                f"only {summary.rate_out:.1f} results per second",
            ),
        ]
    faults += [(WARN, f"{cause} ({recent[cause]} times)") for cause in WARNINGS if recent.get(cause)]
    faults = sorted((fault for fault in faults if fault[0] != OK), key=lambda fault: -fault[0])
    if not faults:
        return OK, "running" if listened_to else "idle, nobody listens"
    return faults[0][0], "; ".join(text for _, text in faults)
