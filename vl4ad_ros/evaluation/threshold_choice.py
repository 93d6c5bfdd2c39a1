"""Choosing the mask's threshold for a false-alarm rate, from normal drives without anomalies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from vl4ad_ros.errors import Vl4adError

# Levels are found to this precision by halving.
PRECISION = 1 / 4096
# Alarms closer together than this are one event on the road.
EVENT_GAP_S = 1.0


def alarm_level(uncertainty: NDArray[np.float32], min_segment: int) -> float:
    """Return the highest threshold at which a frame still has an alarm.

    An alarm is a connected component (8 neighbours) of at least `min_segment` pixels with uncertainty >= threshold.

    Args:
        uncertainty: float32 [H, W] in [0, 1].
        min_segment: Pixels.

    Returns:
        The level to within 1/4096, never above the true one by more than that; 0 if the frame is smaller.
    """
    low, high = 0.0, float(uncertainty.max()) + PRECISION
    while high - low > PRECISION:
        middle = (low + high) / 2
        _, _, stats, _ = cv2.connectedComponentsWithStats((uncertainty >= middle).astype(np.uint8), connectivity=8)
        if len(stats) > 1 and stats[1:, cv2.CC_STAT_AREA].max() >= min_segment:
            low = middle
        else:
            high = middle
    return high


@dataclass(frozen=True)
class Choice:
    """A threshold and what it costs.

    Attributes:
        threshold: The lowest one that keeps the target.
        alarm_share: Share of frames with an alarm at it.
        events: Alarm events at it (frames with an alarm less than 1 s apart are one event).
        events_per_km: Per kilometre; None where the distance is unknown.
        frames: Frames that it was chosen on.
    """

    threshold: float
    alarm_share: float
    events: int
    events_per_km: float | None
    frames: int


def count_events(alarmed: NDArray[np.bool_], stamps_s: NDArray[np.float64]) -> int:
    """Return the number of events among frames: alarms at most 1 s apart belong together."""
    times = stamps_s[alarmed]
    return int(len(times) and 1 + np.count_nonzero(np.diff(times) > EVENT_GAP_S))


def choose_threshold(
    levels: Sequence[NDArray[np.float64]],
    stamps_s: Sequence[NDArray[np.float64]],
    per_frame: float | None,
    per_km: float | None,
    kilometres: float | None,
) -> Choice:
    """Choose the lowest threshold that, on these drives, keeps the target from there upwards.

    Args:
        levels: For each drive, the alarm level of each frame.
        stamps_s: For each drive, the frames' times in seconds, ascending.
        per_frame: Largest share of frames with an alarm; or None.
        per_km: Largest number of alarm events per kilometre; or None.
        kilometres: Length of all drives together; needed for `per_km`.

    Raises:
        Vl4adError: If not exactly one target is given, it is out of range, or no threshold in [0, 1] keeps it.
    """
    if (per_frame is None) == (per_km is None):
        raise Vl4adError("Give one target: --per-frame or --per-km.")
    if per_km is not None and not (kilometres and kilometres > 0):
        raise Vl4adError("--per-km needs the length of the drives: --km or --speed-kmh.")
    everything = np.concatenate(levels)
    if per_frame is not None and not 0 <= per_frame <= 1:
        raise Vl4adError(f"--per-frame is a share of frames in [0, 1], got {per_frame:g}.")

    def cost(threshold: float) -> tuple[float, int]:
        events = sum(count_events(level >= threshold, times) for level, times in zip(levels, stamps_s, strict=True))
        return float((everything >= threshold).mean()), events

    def kept(threshold: float) -> bool:
        share, events = cost(threshold)
        if per_frame is not None:
            return share <= per_frame
        return events / (kilometres or 1.0) <= (per_km or 0.0)

    # Just above each level one alarm goes; between levels nothing changes. Events may also grow when a long one falls
    # apart, so the search starts at the top and stops at the first threshold that breaks the target.
    candidates = np.unique(np.concatenate([[0.0], everything + PRECISION]))[::-1]
    chosen: float | None = None
    for candidate in candidates.tolist():
        if not kept(candidate):
            break
        chosen = candidate
    if chosen is None or chosen > 1:
        raise Vl4adError(
            "No threshold up to 1 keeps the target on these drives: the detector is certain of its alarms."
        )
    share, events = cost(chosen)
    return Choice(chosen, share, events, events / kilometres if kilometres else None, len(everything))


def write_parameters(path: Path, threshold: float, comment: str) -> None:
    """Write or change a parameter file of the detector node: its other parameters stay, its comments go.

    Raises:
        Vl4adError: If the file exists and is no parameter file.
    """
    content: dict[str, object] = {}
    if path.exists():
        from vl4ad_ros.checked import read_yaml

        content = read_yaml(path) or {}
    try:
        node = next(name for name in ("/**", "detector", "/detector") if name in content) if content else "/**"
        section = content.setdefault(node, {})
        parameters = section.setdefault("ros__parameters", {})  # type: ignore[attr-defined]
        parameters["threshold"] = round(float(threshold), 4)
    except (StopIteration, AttributeError, TypeError) as error:
        raise Vl4adError(f"{path} is no parameter file of the detector (expected '/**: ros__parameters:').") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# {comment}\n{yaml.safe_dump(content, sort_keys=False)}", encoding="utf-8")
