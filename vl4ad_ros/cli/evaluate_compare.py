"""`vl4ad evaluate compare`: what changed between two results; fails on a regression."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

from vl4ad_ros.cli.options import Json, Whole
from vl4ad_ros.io.errors import Vl4adError

REGRESSION = 1


def compare(
    a: Path,
    b: Path,
    /,
    *,
    max_drop: float = 0.01,
    common: bool = False,
    samples: Whole = 2000,
    seed: Whole = 0,
    json_output: Json = False,
) -> int:
    """Compare two results with bootstrap confidence intervals over frames; exit 1 on a regression.

    Args:
        a: Folder of the result before (with result.json).
        b: Folder of the result after.
        max_drop: Largest loss allowed in any figure, 0.01 = 1 point.
        common: Only the frames that both have (a live run drops some).
        samples: Resamples of the bootstrap.
        seed: Seed of the bootstrap.
        json_output: Print one JSON object.
    """
    from vl4ad_ros.evaluation.compare import compare
    from vl4ad_ros.evaluation.result import read_result

    if samples < 100 or not 0 <= max_drop < math.inf:
        raise Vl4adError(f"Expected --samples >= 100 and --max-drop >= 0, got {samples} and {max_drop:g}.")
    before, after = read_result(a), read_result(b)
    changes = compare(before, after, samples, seed, common)
    regressions = [change.name for change in changes if change.regression(max_drop)]
    status = REGRESSION if regressions else 0
    if json_output:
        print(json.dumps({"changes": [asdict(change) for change in changes], "regressions": regressions}))
        return status
    for key in ("source", "detector", "settings"):
        for name in sorted(before[0][key].keys() | after[0][key].keys()):
            old, new = before[0][key].get(name), after[0][key].get(name)
            if old != new:
                print(f"{key}.{name}: {old} -> {new}")
    print(f"{'':14}{'before':>9}{'after':>9}{'change':>9}   95 % interval of the change")
    for change in changes:
        interval = "" if change.low is None or change.high is None else f"   {change.low:+.4f} .. {change.high:+.4f}"
        values = (_text(change.before), _text(change.after), _text(change.difference, "+"))
        print(f"{change.name:14}{values[0]:>9}{values[1]:>9}{values[2]:>9}{interval}")
    print("the same frames on both sides" if changes[0].paired else "different frames: intervals are wider")
    if regressions:
        print(f"REGRESSION beyond {max_drop:g}: {', '.join(regressions)}")
    return status


def _text(value: float | None, sign: str = "") -> str:
    return "-" if value is None else format(value, f"{sign}.4f")
