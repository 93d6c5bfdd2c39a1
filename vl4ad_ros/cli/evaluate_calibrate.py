"""`vl4ad evaluate calibrate`: the threshold for a false-alarm rate, from normal drives."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vl4ad_ros.cli import evaluate_options as options
from vl4ad_ros.errors import Vl4adError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HELP = "Choose the mask's threshold for a false-alarm rate on normal drives (bags without anomalies), and write it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bags", type=Path, nargs="+", help="bags of normal drives: every alarm in them is a false one")
    parser.add_argument("--image-topic", help="topic of the camera; not needed where there is only one")
    parser.add_argument("--per-frame", type=float, help="target: share of frames with an alarm, e.g. 0.01")
    parser.add_argument("--per-km", type=float, help="target: alarm events per kilometre, e.g. 0.1")
    parser.add_argument("--km", type=float, help="length of all drives together")
    parser.add_argument("--speed-kmh", type=float, help="mean speed, in place of --km")
    parser.add_argument("--track", default="anomaly", help="smallest alarm: anomaly (500 px) or obstacle (50 px)")
    parser.add_argument("--stride", type=int, default=1, help="take every n-th frame")
    parser.add_argument("--params", type=Path, help="parameter file to write the threshold into")
    options.add_detector(parser)


def run(args: argparse.Namespace) -> int:
    """Print the threshold and write it."""
    from vl4ad_ros.evaluation.threshold_choice import choose_threshold, write_parameters

    drives = [_levels(args, bag) for bag in args.bags]
    seconds = sum(float(times[-1] - times[0]) for _, times in drives)
    kilometres = args.km if args.km is not None else args.speed_kmh and args.speed_kmh * seconds / 3600
    choice = choose_threshold([d[0] for d in drives], [d[1] for d in drives], args.per_frame, args.per_km, kilometres)
    print(
        f"threshold {choice.threshold:.4f}: alarms in {100 * choice.alarm_share:.2f} % of {choice.frames} frames, "
        f"{choice.events} alarm events"
        + ("" if choice.events_per_km is None else f", {choice.events_per_km:.3f} per km on {kilometres:.3f} km")
    )
    if args.params is not None:
        target = f"{args.per_frame:g} per frame" if args.per_frame is not None else f"{args.per_km:g} per km"
        names = ", ".join(bag.name for bag in args.bags)
        write_parameters(
            args.params, choice.threshold, f"threshold for {target}, chosen on {names}, bundle {args.bundle}"
        )
        print(f"written to {args.params}")
    return 0


def _levels(args: argparse.Namespace, bag: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the alarm level and the time of each frame of a bag."""
    import numpy as np
    from tqdm import tqdm

    from vl4ad_ros.evaluation.bag_source import BagSource
    from vl4ad_ros.evaluation.component_metrics import track
    from vl4ad_ros.evaluation.threshold_choice import alarm_level

    sizes = track(args.track)
    if args.stride < 1:
        raise Vl4adError(f"--stride must be at least 1, got {args.stride}.")
    source = BagSource(bag, args.image_topic)
    predictor = options.detector_spec(args).open()
    levels, times = [], []
    try:
        indices = range(0, len(source), args.stride)
        for frame in tqdm(source.frames(indices), total=len(indices), unit="frame", desc=bag.name):
            uncertainty, _ = predictor.predict(frame)
            levels.append(alarm_level(uncertainty, sizes.min_segment))
            times.append((frame.stamp_ns or 0) / 1e9)
    finally:
        predictor.close()
    return np.array(levels), np.array(times)
