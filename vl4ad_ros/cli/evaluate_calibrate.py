"""`vl4ad evaluate calibrate`: the threshold for a false-alarm rate, from normal drives."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from vl4ad_ros.cli import evaluate_options as options
from vl4ad_ros.io.errors import Vl4adError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vl4ad_ros.evaluation.bag_source import BagSource
    from vl4ad_ros.evaluation.predictor import Predictor

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
    from vl4ad_ros.evaluation.component_metrics import track
    from vl4ad_ros.evaluation.threshold_choice import check_target, choose_threshold, read_parameters, write_parameters

    # What can be wrong is found before the drives, which take long.
    check_target(args.per_frame, args.per_km, args.km, args.speed_kmh)
    smallest = track(args.track).min_segment
    if args.stride < 1:
        raise Vl4adError(f"--stride must be at least 1, got {args.stride}.")
    if args.params is not None:
        read_parameters(args.params)
    drives = _drives(args, smallest)
    seconds = sum(float(stamps[-1] - stamps[0]) for _, stamps in drives)
    kilometres = args.km if args.km is not None else args.speed_kmh and args.speed_kmh * seconds / 3600
    if args.per_km is not None and not kilometres:
        raise Vl4adError("By their stamps the drives take no time; give their length with --km.")
    levels, times = zip(*drives, strict=True)
    choice = choose_threshold(levels, times, args.per_frame, args.per_km, kilometres or None)
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


def _drives(args: argparse.Namespace, smallest: int) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return the alarm level and the time of each frame of each bag; print what could not be read."""
    from vl4ad_ros.evaluation.bag_source import BagSource
    from vl4ad_ros.io.bag_recovery import readable_bag

    drives = []
    with tempfile.TemporaryDirectory() as folder:
        sources = []
        for number, given in enumerate(args.bags):
            bag, lost = readable_bag(given, Path(folder) / str(number))
            source = BagSource(bag, args.image_topic)
            source.found += [lost] if lost else []
            sources.append(source)
        predictor = options.detector_spec(args).open()
        try:
            for given, source in zip(args.bags, sources, strict=True):
                drives.append(_levels(source, predictor, args.stride, smallest, given.name))
                for problem in source.problems:
                    print(f"note: {problem}")
        finally:
            predictor.close()
    return drives


def _levels(
    source: BagSource, predictor: Predictor, stride: int, smallest: int, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the alarm level and the time of each frame of a bag."""
    import numpy as np
    from tqdm import tqdm

    from vl4ad_ros.evaluation.threshold_choice import alarm_level

    levels, times = [], []
    indices = range(0, len(source), stride)
    for frame in tqdm(source.frames(indices), total=len(indices), unit="frame", desc=name):
        uncertainty = predictor.predict(frame).uncertainty
        levels.append(alarm_level(uncertainty, smallest))
        times.append((frame.stamp_ns or 0) / 1e9)
    if not levels:
        raise Vl4adError(f"{name}: no frame can be used. {' '.join(source.problems)}")
    return np.array(levels), np.array(times)
