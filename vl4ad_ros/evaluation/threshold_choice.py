"""Choosing the mask's threshold for a false-alarm rate, from normal drives without anomalies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from vl4ad_ros.io.checked import read_yaml
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import write_text

# Levels are found to this precision by halving.
PRECISION = 1 / 4096
# Alarms closer together than this are one event on the road.
EVENT_GAP_S = 1.0


def alarm_level(uncertainty: NDArray[np.float32], min_segment: int) -> float:
    """Return the highest threshold at which a frame still has an alarm, to within 1/4096; 1 only with an alarm at 1.

    An alarm is a component (8 neighbours) of at least `min_segment` pixels with uncertainty [H, W] >= threshold.
    """

    def alarms(threshold: float) -> bool:
        mask = (uncertainty >= threshold).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        return bool((stats[1:, cv2.CC_STAT_AREA] >= min_segment).any())

    largest = float(uncertainty.max())
    if largest >= 1 and alarms(1.0):
        return 1.0
    low, high = 0.0, largest + PRECISION
    while high - low > PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if alarms(middle) else (low, middle)
    # Below 1: no alarm is left at that threshold, the highest that the node takes.
    return min(high, float(np.nextafter(1.0, 0.0)))


@dataclass(frozen=True)
class Choice:
    """A threshold, the share of `frames` with an alarm at it, and its alarm events (per km: None where unknown)."""

    threshold: float
    alarm_share: float
    events: int
    events_per_km: float | None
    frames: int


def count_events(alarmed: NDArray[np.bool_], stamps_s: NDArray[np.float64]) -> int:
    """Return the number of events among frames: alarms at most 1 s apart belong together."""
    times = stamps_s[alarmed]
    return int(len(times) and 1 + np.count_nonzero(np.diff(times) > EVENT_GAP_S))


def check_target(
    per_frame: float | None, per_km: float | None, kilometres: float | None, speed_kmh: float | None = None
) -> None:
    """Check the target of a choice and the length of the drives, before the work."""
    if (per_frame is None) == (per_km is None):
        raise Vl4adError("Give one target: --per-frame or --per-km.")
    if per_frame is not None and not 0 <= per_frame <= 1:
        raise Vl4adError(f"--per-frame is a share of frames in [0, 1], got {per_frame:g}.")
    if per_km is not None and not 0 <= per_km < math.inf:
        raise Vl4adError(f"--per-km is a number of alarm events of at least 0, got {per_km:g}.")
    for name, value in (("--km", kilometres), ("--speed-kmh", speed_kmh)):
        if value is not None and not 0 < value < math.inf:
            raise Vl4adError(f"{name} must be a number above 0, got {value:g}.")
    if per_km is not None and kilometres is None and speed_kmh is None:
        raise Vl4adError("--per-km needs the length of the drives: --km or --speed-kmh.")


def choose_threshold(
    levels: Sequence[NDArray[np.float64]],
    stamps_s: Sequence[NDArray[np.float64]],
    per_frame: float | None,
    per_km: float | None,
    kilometres: float | None,
) -> Choice:
    """Choose the lowest threshold that, on these drives, keeps the target (see `check_target`) from there upwards.

    For each drive the alarm level of each frame and its time in seconds, ascending. Targets: largest share of frames
    with an alarm, or largest number of alarm events per kilometre of all drives together.
    """
    everything = np.concatenate(levels)

    def cost(threshold: float) -> tuple[float, int]:
        events = sum(count_events(level >= threshold, times) for level, times in zip(levels, stamps_s, strict=True))
        return float((everything >= threshold).mean()), events

    # Just above each level one alarm goes; between levels nothing changes. Events may also grow when a long one falls
    # apart, so the search starts at the top and stops at the first threshold that breaks the target.
    candidates = np.unique(np.concatenate([[0.0, 1.0], (everything + PRECISION).clip(0, 1)]))[::-1]
    chosen: float | None = None
    for candidate in candidates.tolist():
        share, events = cost(candidate)
        kept = share <= per_frame if per_frame is not None else events / (kilometres or 1.0) <= (per_km or 0.0)
        if not kept:
            break
        chosen = candidate
    if chosen is None:
        raise Vl4adError(
            "No threshold up to 1 keeps the target on these drives: the detector is certain of its alarms."
        )
    share, events = cost(chosen)
    return Choice(chosen, share, events, events / kilometres if kilometres else None, len(everything))


def write_parameters(path: Path, threshold: float, comment: str) -> None:
    """Write or change a parameter file of the detector node: its other parameters stay, its comments go."""
    content, parameters = read_parameters(path)
    parameters["threshold"] = round(float(threshold), 4)
    write_text(path, f"# {comment}\n{yaml.safe_dump(content, sort_keys=False)}")


def read_parameters(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a parameter file, which may be missing.

    The section for the threshold is one that the node `detector`, in any namespace, takes it from: one that has a
    threshold already, else the most specific one, so that no other section overrides what is written.

    Returns the file's content, and the parameters in it that the threshold belongs to.
    """
    content = (read_yaml(path) or {}) if path.exists() else {}
    wrong = Vl4adError(f"{path} is no parameter file of the detector (expected '/**: ros__parameters:').")
    if not isinstance(content, dict):
        raise wrong
    sections: dict[str, dict[str, Any]] = {}
    for name in list(content) or ["/**"]:
        if name.rsplit("/", 1)[-1] in ("detector", "*", "**"):
            section = content.setdefault(name, {})
            parameters = section.setdefault("ros__parameters", {}) if isinstance(section, dict) else None
            if not isinstance(parameters, dict):
                raise wrong
            sections[name] = parameters
    if not sections:
        raise wrong
    having = [name for name, parameters in sections.items() if "threshold" in parameters] or list(sections)
    rank = {name: (name.rsplit("/", 1)[-1] == "detector", "*" not in name) for name in having}
    specific = [name for name in having if rank[name] == max(rank.values())]
    if len(specific) > 1:
        raise Vl4adError(f"{path} has several sections for a threshold {specific}; give a file that has one of them.")
    return content, sections[specific[0]]
