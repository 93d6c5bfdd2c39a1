"""Options and steps that `vl4ad evaluate dataset`, `evaluate bag` and `demo` share."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import DirectoryPath, Field, PositiveInt, field_validator
from tqdm import tqdm

from vl4ad_ros.cli.options import print_error
from vl4ad_ros.evaluation import live_run
from vl4ad_ros.evaluation.domain import own_environment
from vl4ad_ros.evaluation.drives import Planner
from vl4ad_ros.evaluation.frames import FrameSource, RoadOnlySource
from vl4ad_ros.evaluation.groups import Groups, State
from vl4ad_ros.evaluation.live_statistics import latencies, live_statistics, read_recorded, read_sent
from vl4ad_ros.evaluation.measure import Measurements
from vl4ad_ros.evaluation.pictures import draw_pictures, save_pictures
from vl4ad_ros.evaluation.predictor import DetectorSpec, PredictorSpec, Recording
from vl4ad_ros.evaluation.result import RESULT, EvaluationResult, summarise_run, write_result
from vl4ad_ros.evaluation.run import EvaluationSettings, about_run, evaluate
from vl4ad_ros.io.bag_reader import BagReader, recorded_s
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.labels import parse_values
from vl4ad_ros.runtime.parameters import Settings
from vl4ad_ros.runtime.settings import MapSettings, ModelSettings, PromptSettings, to_ros

REPORT = "report.html"
RECORDING = "recording"


class RunOptions(Settings):
    """What is measured, on how many frames, by how many processes, and where it is written."""

    out: Path = Field(description="Folder for report.html, result.json, frames.jsonl.")
    track: Literal["anomaly", "obstacle"] | None = Field(
        default=None,
        description="Component sizes: anomaly (500, 100 px) or obstacle (50, 10 px); by default the data set's own, "
        "or anomaly.",
    )
    threshold: Annotated[float, Field(ge=0, le=1)] | Literal["best"] | None = Field(
        default=None,
        description="Uncertainty at and above which a pixel is an anomaly, or `best`: that of the best F1 on these "
        "very frames, as SegmentMeIfYouCan's evaluator takes it (predicts twice); default: the bundle's own.",
    )
    per_size: bool = Field(
        default=False,
        description="Measure AP, FPR95 and recall by the height of objects, too: below 24, 24 to 64, and from 64 "
        "pixels at a width of 1280.",
    )
    road_only: DirectoryPath | None = Field(
        default=None,
        description="Folder of masks or label images with the frames' names: only pixels inside them are measured.",
    )
    road_values: str | None = Field(
        default=None, description="Of --road-only: values that are inside, e.g. 7 or 1,3-5; default: all but 0."
    )
    stride: PositiveInt = Field(default=1, description="Take every n-th frame.")
    limit: PositiveInt | None = Field(default=None, description="Take at most so many frames.")
    jobs: PositiveInt = Field(default=1, description="Processes on this machine.")
    pictures: Path | None = Field(
        default=None, description="Write the report's worst and best frames as JPEG files here, too."
    )
    mcap: Path | None = Field(
        default=None, description="Write pictures and figures into this new bag, too, for Foxglove."
    )
    ray: str | None = Field(default=None, description="Ray cluster (auto, host:port, local); needs the extra `ray`.")

    @field_validator("mcap")
    @classmethod
    def _is_new(cls, path: Path | None) -> Path | None:
        if path is not None and path.exists():
            raise ValueError("it exists already; --mcap writes a new bag")
        return path

    @field_validator("out", "pictures")
    @classmethod
    def _can_be_written(cls, folder: Path | None) -> Path | None:
        if folder is not None:
            existing = next(path for path in (folder, *folder.parents) if path.exists())
            if not (existing.is_dir() and os.access(existing, os.W_OK)):
                raise ValueError(f"{existing} is no folder that can be written")
        return folder


def detector_spec(model: ModelSettings, settings: MapSettings) -> DetectorSpec:
    """Return how any process opens the detector of the options."""
    return DetectorSpec(**model.model_dump(), **settings.model_dump(include=set(MapSettings.model_fields)))


def evaluate_source(
    source: FrameSource,
    predictor: PredictorSpec,
    options: RunOptions,
    track: str = "anomaly",
    live: dict[str, Any] | None = None,
    region_overlap: bool = False,
    planner: Planner | None = None,
    groups: Groups | None = None,
) -> EvaluationResult:
    """Evaluate a source, write the report and the result files into `out`, and return the result.

    Args:
        source: The frames.
        predictor: What predicts.
        options: What is measured, and where it is written.
        track: Component sizes, where the options name none.
        live: Figures of a live run.
        region_overlap: Whether to measure the per-region overlap.
    """
    from vl4ad_ros.evaluation.exports import write_mcap
    from vl4ad_ros.evaluation.report import chosen_pictures, write_report

    opened = predictor.open()
    about, own = opened.describe(), opened.default_threshold
    opened.close()
    if options.road_only is not None:
        values = None if options.road_values is None else parse_values(options.road_values)
        source = RoadOnlySource(source, options.road_only, values)
    if groups is not None and options.threshold is not None:
        groups = replace(groups, thresholds=())
    settings = EvaluationSettings(
        own, options.track or track, options.stride, options.limit, region_overlap, options.per_size, groups=groups
    )
    if isinstance(options.threshold, float):
        settings = replace(settings, threshold=options.threshold, threshold_from="given")
    found = _measure(source, predictor, settings, options)
    if options.threshold == "best":
        pixel = found.pixels.result()
        if not pixel.positives:
            raise Vl4adError("--threshold best needs labelled anomalies; there are none.")
        settings = replace(settings, threshold=pixel.best_f1_threshold, threshold_from="best_f1")
        found = _measure(source, predictor, settings, options)
    is_drive = bool(source.description["is_drive"])
    result = summarise_run(found, about_run(source, about, settings), is_drive, live, planner)
    (options.out / REPORT).unlink(missing_ok=True)
    write_result(options.out, result)
    thresholds = {record["index"]: record["threshold"] for record in result.records}
    pictures = draw_pictures(source, predictor, thresholds, chosen_pictures(result))
    write_report(options.out / REPORT, result, pictures)
    if options.pictures is not None:
        save_pictures(options.pictures, result.records, pictures)
    if options.mcap is not None:
        with tqdm(total=len(result.records), unit="frame", desc="writing") as bar:
            write_mcap(options.mcap, source, predictor, result.records, bar.update)
    return result


def _measure(
    source: FrameSource, predictor: PredictorSpec, settings: EvaluationSettings, options: RunOptions
) -> Measurements:
    with tqdm(total=len(settings.indices(len(source))), unit="frame", desc="evaluating") as bar:
        return evaluate(source, predictor, settings, options.jobs, options.ray, bar.update)


def print_headline(result: EvaluationResult, out: Path) -> None:
    """Print the figures that matter most, the problems, and where the report is."""
    from vl4ad_ros.evaluation.report import drive_in_words, grouped, headline, in_percent, percent

    if words := drive_in_words(result.summary):
        print(words)
    intervals = (result.summary["pixel"] or {}).get("interval_95", {})
    figures = ((name, text, intervals.get(name.lower())) for name, text in headline(result.summary))
    print(", ".join(f"{name} {text}{in_percent(interval)}" for name, text, interval in figures))
    for row in grouped(result.summary):
        print("  " + ", ".join(f"{name} {text}".strip() for name, text in row.items()))
    for group in (result.summary["regions"] or {}).get("by_height", []):
        to = "and more" if group["to"] is None else f"to {group['to']:.0f}"
        named = ((name, percent(group[key])) for name, key in (("AP", "ap"), ("FPR95", "fpr95"), ("recall", "recall")))
        figures_of_size = ", ".join(f"{name} {text}" for name, text in named)
        print(f"{group['objects']} objects {group['from']:.0f} {to} pixels high: {figures_of_size}")
    if result.summary["settings"]["threshold_from"] == "best_f1":
        print(f"threshold {result.summary['settings']['threshold']:.4f}: of the best F1 on these very frames")
    for problem in result.summary["problems"]:
        print(f"note: {problem}")
    print(f"report: {out / REPORT}")


def run_live_bag(
    bag: Path, topic: str | None, label_topic: str | None, out: Path, model: ModelSettings, prompts: PromptSettings,
    rate: float,
) -> live_run.LiveRun:  # fmt: skip
    """Play a bag through a running detector; return the recording and the log of what was sent, both in `out`."""
    with BagReader(bag) as reader:
        if label_topic is not None:
            reader.image_topic(label_topic)
        image_topic = reader.image_topic(topic, labels=label_topic)
        compressed = reader.topics()[image_topic].endswith("CompressedImage")
        logged = [image.log_ns for image in reader.images(image_topic)]
    shutil.rmtree(out / RECORDING, ignore_errors=True)
    for name in (RESULT, REPORT):  # Where they are, the recording is the one that they tell of.
        (out / name).unlink(missing_ok=True)
    print_error(f"live in ROS domain {own_environment()['ROS_DOMAIN_ID']}, on this machine only")
    given = {name: json.dumps(value) for name, value in to_ros(model, prompts).items()}
    return live_run.run_live(bag, image_topic, out, recorded_s(logged), compressed, model.bundle, None, rate, given)


@dataclass(frozen=True)
class RecordedRun:
    """What a running detector published of a bag; what it dropped counts as dropped, not as wrong."""

    predictor: Recording  # its maps
    states: list[State]  # what it made them with
    # Stamp -> output -> milliseconds, where what was sent is known.
    latency_ms: dict[int, dict[str, float]] | None = None
    figures: dict[str, Any] | None = None  # latency, drops and rates of the run, where what was sent is known


def read_run(recorded: Path, sent: Path | None) -> RecordedRun:
    """Read a recording of a detector, and the log of 'vl4ad replay --log' that belongs to it."""
    arrived, states = read_recorded(recorded)
    first, *others = (state.about for state in states)
    predictor = Recording({key: value for key, value in first.items() if all(value == one[key] for one in others)})
    if sent is None:
        return RecordedRun(predictor, states)
    moments = read_sent(sent)
    return RecordedRun(predictor, states, latencies(moments, arrived), live_statistics(moments, arrived))
