"""`vl4ad evaluate compare`: what changed between two results; fails on a regression."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from vl4ad_ros.io.errors import Vl4adError

HELP = "Compare two results with bootstrap confidence intervals over frames; exit 1 on a regression."
REGRESSION = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("a", type=Path, help="folder of the result before (with result.json)")
    parser.add_argument("b", type=Path, help="folder of the result after")
    parser.add_argument(
        "--max-drop", type=float, default=0.01, help="largest loss allowed in any figure, 0.01 = 1 point"
    )
    parser.add_argument("--common", action="store_true", help="only the frames that both have (a live run drops some)")
    parser.add_argument("--samples", type=int, default=2000, help="resamples of the bootstrap")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the changes; return 1 if a figure got worse by more than the limit."""
    from vl4ad_ros.evaluation.compare import compare
    from vl4ad_ros.evaluation.result import read_result

    if args.samples < 100 or args.max_drop < 0:
        raise Vl4adError(f"Expected --samples >= 100 and --max-drop >= 0, got {args.samples} and {args.max_drop:g}.")
    a, b = read_result(args.a), read_result(args.b)
    changes = compare(a, b, args.samples, args.seed, args.common)
    regressions = [change.name for change in changes if change.regression(args.max_drop)]
    if args.json:
        print(json.dumps({"changes": [change.as_dict() for change in changes], "regressions": regressions}))
        return REGRESSION if regressions else 0
    for key in ("source", "detector", "settings"):
        for name in sorted(a[0][key].keys() | b[0][key].keys()):
            before, after = a[0][key].get(name), b[0][key].get(name)
            if before != after:
                print(f"{key}.{name}: {before} -> {after}")
    print(f"{'':14}{'before':>9}{'after':>9}{'change':>9}   95 % interval of the change")
    for change in changes:
        interval = "" if change.low is None or change.high is None else f"   {change.low:+.4f} .. {change.high:+.4f}"
        values = (_text(change.before), _text(change.after), _text(change.difference, "+"))
        print(f"{change.name:14}{values[0]:>9}{values[1]:>9}{values[2]:>9}{interval}")
    print("the same frames on both sides" if changes[0].paired else "different frames: intervals are wider")
    if regressions:
        print(f"REGRESSION beyond {args.max_drop:g}: {', '.join(regressions)}")
    return REGRESSION if regressions else 0


def _text(value: float | None, sign: str = "") -> str:
    return "-" if value is None else format(value, f"{sign}.4f")
