"""`vl4ad evaluate calibrate`: the threshold for a false-alarm rate, from normal drives."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vl4ad_ros.cli.evaluate_run import detector_spec
from vl4ad_ros.cli.options import Count, Map, Model
from vl4ad_ros.evaluation.bag_source import BagSource
from vl4ad_ros.evaluation.component_metrics import TRACKS
from vl4ad_ros.evaluation.predictor import PredictorSpec, predictions
from vl4ad_ros.evaluation.threshold_choice import (
    alarm_level,
    check_target,
    choose_threshold,
    read_parameters,
    write_parameters,
)
from vl4ad_ros.io.bag_reader import recorded_s
from vl4ad_ros.io.bag_recovery import readable_bag
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.settings import MapSettings, ModelSettings

# Alarm level and stamp in seconds of each frame of a drive, float64 [frames].
Levels = tuple[NDArray[np.float64], NDArray[np.float64]]


def calibrate(
    bags: list[Path],
    /,
    *,
    image_topic: str | None = None,
    per_frame: float | None = None,
    per_km: float | None = None,
    km: float | None = None,
    speed_kmh: float | None = None,
    track: Literal["anomaly", "obstacle"] = "anomaly",
    stride: Count = 1,
    params: Path | None = None,
    model: Model = ModelSettings(),
    settings: Map = MapSettings(),
) -> None:
    """Choose the mask's threshold for a false-alarm rate on normal drives (bags without anomalies), and write it.

    Args:
        bags: Bags of normal drives: every alarm in them is a false one.
        image_topic: Topic of the camera; not needed where there is only one.
        per_frame: Target: share of frames with an alarm, e.g. 0.01.
        per_km: Target: alarm events per kilometre, e.g. 0.1.
        km: Length of all drives together.
        speed_kmh: Mean speed, in place of --km.
        track: Smallest alarm: anomaly (500 px) or obstacle (50 px).
        stride: Take every n-th frame.
        params: Parameter file to write the threshold into.
        model: What runs.
        settings: What is asked.
    """
    # What can be wrong is found before the drives, which take long.
    check_target(per_frame, per_km, km, speed_kmh)
    if params is not None:
        read_parameters(params)
    drives = _drives(bags, image_topic, detector_spec(model, settings), stride, TRACKS[track].min_segment)
    if km is None and speed_kmh is not None:
        km = speed_kmh * sum(recorded_s((stamps * 1e9).astype(int).tolist()) for _, stamps in drives) / 3600
    if per_km is not None and not km:
        raise Vl4adError("By their stamps the drives take no time; give their length with --km.")
    levels, times = zip(*drives, strict=True)
    choice = choose_threshold(levels, times, per_frame, per_km, km or None)
    print(
        f"threshold {choice.threshold:.4f}: alarms in {100 * choice.alarm_share:.2f} % of {choice.frames} frames, "
        f"{choice.events} alarm events"
        + ("" if choice.events_per_km is None else f", {choice.events_per_km:.3f} per km on {km:.3f} km")
    )
    if params is not None:
        target = f"{per_frame:g} per frame" if per_frame is not None else f"{per_km:g} per km"
        names = ", ".join(bag.name for bag in bags)
        write_parameters(params, choice.threshold, f"threshold for {target}, chosen on {names}, bundle {model.bundle}")
        print(f"written to {params}")


def _drives(bags: list[Path], topic: str | None, spec: PredictorSpec, stride: int, smallest: int) -> list[Levels]:
    """Return the alarm levels of each bag; print what could not be read."""
    with tempfile.TemporaryDirectory() as folder:
        sources = []
        for number, given in enumerate(bags):
            bag, lost = readable_bag(given, Path(folder) / str(number))
            source = BagSource(bag, topic)
            source.found += [lost] if lost else []
            sources.append(source)
        return [_levels(source, spec, stride, smallest, bag.name) for bag, source in zip(bags, sources, strict=True)]


def _levels(source: BagSource, spec: PredictorSpec, stride: int, smallest: int, name: str) -> Levels:
    indices = range(0, len(source), stride)
    shown = tqdm(predictions(source, spec, indices), total=len(indices), unit="frame", desc=name)
    found = [(alarm_level(made.uncertainty, smallest), (frame.stamp_ns or 0) / 1e9) for frame, made in shown]
    if not found:
        raise Vl4adError(f"{name}: no frame can be used. {' '.join(source.problems)}")
    for problem in source.problems:
        print(f"note: {problem}")
    levels, times = np.array(found).T
    return levels, times
