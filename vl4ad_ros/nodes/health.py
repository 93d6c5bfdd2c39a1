"""Judging a camera's statistics by the limits that the parameters set. Knows no ROS type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vl4ad_ros.nodes.stats import Summary

OK, WARN, ERROR = 0, 1, 2
LOST = "lost in transport"


def lost(summary: Summary, reliability: str, choice: str) -> str:
    """Return a sentence on frames lost in transport since the last summary: how many, and what helps.

    Args:
        summary: The camera's statistics.
        reliability: Of the subscription: `reliable` or `best_effort`.
        choice: The parameter `image_reliability`.

    Returns:
        The sentence; empty where none was lost.
    """
    number = summary.recent.get(LOST, 0)
    if not number:
        return ""
    sent = number + summary.recent.get("received", 0)
    cures = {
        "reliable": "give its driver config/fastdds.xml (docs/camera.md), or a longer queue",
        "best_effort": "let its driver publish reliably, or give it config/fastdds.xml (docs/camera.md)",
    }
    cure = cures.get(reliability, cures["best_effort"])
    if reliability != "reliable" and choice == "best_effort":
        cure = "set image_reliability to auto, or give its driver config/fastdds.xml (docs/camera.md)"
    return f"{number} of the last {sent} images ({number / sent:.0%}) were lost in transport: {cure}."


def judge(summary: Summary, limits: Mapping[str, Any], listened_to: bool, source: str = "") -> tuple[int, str]:
    """Return the level and one sentence.

    Args:
        summary: The camera's statistics.
        limits: Parameters by name.
        listened_to: Whether anybody subscribes to an output; where not, rates and ages say nothing.
        source: What is known of the camera's topic, for a silent one.
    """
    bad = sum(number for cause, number in summary.recent.items() if cause.startswith("bad: "))
    share = bad / max(summary.recent.get("received", 0), bad, 1)
    worst = max((c for c in summary.recent if c.startswith("bad: ")), key=summary.recent.__getitem__, default="")
    faults: list[tuple[int, str]] = []

    def above(value: float, limit: str, text: str, zero_is_off: bool = True) -> None:
        for level, suffix in ((ERROR, "error"), (WARN, "warn")):
            bound = limits[limit.format(suffix)]
            if value > bound and (bound > 0 or not zero_is_off):
                faults.append((level, text))
                return

    if summary.recent.get("engine error"):
        faults.append((ERROR, f"the engine failed on {summary.recent['engine error']} frames"))
    above(share, "diagnostics.bad_input_{}_ratio", f"{bad} unusable frames ({worst.removeprefix('bad: ')})", False)
    above(
        summary.silent_s,
        "diagnostics.silent_{}_s",
        f"no frame for {summary.silent_s:.1f} s" + (f" ({source})" if source else ""),
    )
    if listened_to and limits["enabled"]:
        age = summary.median_ms.get("age", 0.0)
        above(age, "diagnostics.age_{}_ms", f"results are {age:.0f} ms old")
        for level, suffix in ((ERROR, "error"), (WARN, "warn")):
            if summary.rate_out < limits[f"diagnostics.rate_{suffix}_hz"]:
                faults.append((level, f"only {summary.rate_out:.1f} results per second"))
                break
    for cause in (
        LOST,
        "zero stamp",
        "time jumped back",
        "no /clock",
        "stamp ahead of the clock",
        "camera_info does not fit",
    ):
        if summary.recent.get(cause):
            faults.append((WARN, f"{cause} ({summary.recent[cause]} times)"))
    if not faults:
        return OK, "running" if listened_to else "idle, nobody listens"
    return max(level for level, _ in faults), "; ".join(text for _, text in sorted(faults, key=lambda f: -f[0]))
