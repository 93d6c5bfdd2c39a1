"""Options and last steps that the kinds of `vl4ad evaluate` share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vl4ad_ros.cli.random_word_options import add_random_word, random_word_network
from vl4ad_ros.io.errors import Vl4adError

if TYPE_CHECKING:
    from vl4ad_ros.evaluation.frames import FrameSource
    from vl4ad_ros.evaluation.predictor import DetectorSpec, PredictorSpec
    from vl4ad_ros.evaluation.result import EvaluationResult


def add_detector(parser: argparse.ArgumentParser) -> None:
    """Declare how the detector is opened."""
    from vl4ad_ros.runtime.engine import BACKENDS
    from vl4ad_ros.runtime.scores import SCORINGS

    group = parser.add_argument_group("detector")
    group.add_argument("--bundle", default="vl4ad-small", help="name or folder of the model bundle")
    group.add_argument("--prompt-set", help="compiled prompt set; default: the bundle's")
    group.add_argument("--scoring", help=f"score: {', '.join(SCORINGS)}; default: the bundle's")
    group.add_argument("--method", default="vl4ad", help="vl4ad, random_word or both")
    add_random_word(group)
    group.add_argument("--temperature", type=float, help="overrides the temperature")
    group.add_argument("--backend", default="onnxruntime", help=f"inference backend: {', '.join(BACKENDS)}")
    group.add_argument("--threads", type=int, default=0, help="CPU threads of the engine; 0 lets it choose")


def add_run(parser: argparse.ArgumentParser, track: str | None = "anomaly") -> None:
    """Declare what is measured, on how many frames, and by how many processes."""
    group = parser.add_argument_group("evaluation")
    group.add_argument("--out", type=Path, required=True, help="folder for report.html, result.json, frames.jsonl")
    group.add_argument(
        "--threshold", type=float, help="uncertainty at or above it is an anomaly; default: the bundle's"
    )
    group.add_argument("--track", default=track, help="component sizes: anomaly (500, 100 px) or obstacle (50, 10 px)")
    group.add_argument("--stride", type=int, default=1, help="take every n-th frame")
    group.add_argument("--limit", type=int, help="take at most so many frames")
    group.add_argument("--jobs", type=int, default=1, help="processes on this machine")
    group.add_argument("--pictures", type=Path, help="also write the report's worst and best frames as JPEG files here")
    group.add_argument("--mcap", type=Path, help="also write pictures and figures into this new bag, for Foxglove")
    group.add_argument("--ray", metavar="ADDRESS", help="Ray cluster (auto, host:port, local); needs the extra `ray`")


def detector_spec(args: argparse.Namespace) -> DetectorSpec:
    """Return the detector that the options name."""
    from vl4ad_ros.evaluation.predictor import DetectorSpec

    network = random_word_network(args)
    return DetectorSpec(
        args.bundle, args.backend, args.prompt_set, args.scoring, args.method, args.temperature, args.threads, network
    )


def check_run(args: argparse.Namespace) -> None:
    """Check what can be wrong with the options of `add_run`, before the work.

    Raises:
        Vl4adError: If a number is out of range or a target cannot be written.
    """
    from vl4ad_ros.evaluation.component_metrics import track
    from vl4ad_ros.evaluation.run import EvaluationSettings

    if args.jobs < 1:
        raise Vl4adError(f"--jobs must be at least 1, got {args.jobs}.")
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise Vl4adError(f"The threshold must lie in [0, 1], got {args.threshold}.")
    if args.track is not None:
        track(args.track)
    EvaluationSettings(0.5, stride=args.stride, limit=args.limit).indices(0)
    if args.mcap is not None and args.mcap.exists():
        raise Vl4adError(f"{args.mcap} exists already; --mcap writes a new bag.")
    for name, folder in (("--out", args.out), ("--pictures", args.pictures)):
        if folder is not None:
            existing = next(path for path in (folder, *folder.parents) if path.exists())
            if not (existing.is_dir() and os.access(existing, os.W_OK)):
                raise Vl4adError(f"{name} {folder}: {existing} is no folder that can be written.")


def evaluate_source(
    args: argparse.Namespace,
    source: FrameSource,
    predictor: PredictorSpec,
    track: str,
    live: dict[str, Any] | None = None,
    region_overlap: bool = False,
) -> EvaluationResult:
    """Evaluate a source as the options say and write the report and result files into `--out`.

    Args:
        args: The options of `add_run`, checked by `check_run`.
        source: The frames.
        predictor: What predicts.
        track: Component sizes, where the options name none.
        live: Figures of a live run.
        region_overlap: Whether to measure the per-region overlap.
    """
    from tqdm import tqdm

    from vl4ad_ros.evaluation.report import write_report
    from vl4ad_ros.evaluation.result import summarise_run, write_result
    from vl4ad_ros.evaluation.run import EvaluationSettings, about_run, evaluate

    opened = predictor.open()
    about, threshold = opened.describe(), opened.default_threshold if args.threshold is None else args.threshold
    opened.close()
    if not 0 <= threshold <= 1:
        raise Vl4adError(f"The threshold must lie in [0, 1], got {threshold}.")
    settings = EvaluationSettings(threshold, args.track or track, args.stride, args.limit, region_overlap)
    with tqdm(total=len(settings.indices(len(source))), unit="frame", desc="evaluating") as bar:
        found = evaluate(source, predictor, settings, args.jobs, args.ray, bar.update)
    result = summarise_run(found, about_run(source, about, settings), bool(source.description["is_drive"]), live)
    write_result(args.out, result)
    write_report(args.out / "report.html", result)
    if args.pictures is not None:
        result.gallery.save(args.pictures)
    if args.mcap is not None:
        from vl4ad_ros.evaluation.mcap_results import write_mcap

        with tqdm(total=len(result.records), unit="frame", desc="writing") as bar:
            write_mcap(args.mcap, source, predictor, threshold, result.records, bar.update)
    return result


def print_headline(result: EvaluationResult, out: Path) -> None:
    """Print the figures that matter most, the problems, and where the report is."""
    from vl4ad_ros.evaluation.report import headline

    print(", ".join(f"{name} {text}" for name, text in headline(result.summary)))
    for problem in result.summary["problems"]:
        print(f"note: {problem}")
    print(f"report: {out / 'report.html'}")
