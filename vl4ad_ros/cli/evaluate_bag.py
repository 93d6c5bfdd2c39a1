"""`vl4ad evaluate bag`: a recorded drive, frame by frame in code, or as a running detector saw it."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from vl4ad_ros.cli import evaluate_options as options
from vl4ad_ros.cli.random_word_options import random_word_network
from vl4ad_ros.io.errors import Vl4adError

if TYPE_CHECKING:
    from vl4ad_ros.evaluation.frames import FrameSource
    from vl4ad_ros.evaluation.result import EvaluationResult
    from vl4ad_ros.io.labels import LabelMapping

HELP = "Measure the detector on a bag: in code (every frame), from a recording of a live run, or live (--live)."
# A bag that can be opened, and a sentence on what was lost of the one given.
Bag: TypeAlias = "tuple[Path, str | None]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "bags", type=Path, nargs="+", metavar="BAG", help="rosbag2 folder, .mcap or .db3; several: one result"
    )
    parser.add_argument("--image-topic", help="topic of the camera; not needed where there is only one")
    parser.add_argument("--label-topic", help="topic of the ground truth (1 anomaly, 0 none, 255 void)")
    mapping = parser.add_argument_group("labels")
    mapping.add_argument("--anomaly", default="1", help="label values that are anomalies, e.g. 1 or 3-5")
    mapping.add_argument("--void", default="255", help="label values that are left out")
    options.add_detector(parser)
    options.add_run(parser)
    live = parser.add_argument_group("live runs")
    live.add_argument("--live", action="store_true", help="replay the bag through a running detector node")
    live.add_argument("--rate", type=float, default=1.0, help="speed of the replay (--live)")
    live.add_argument("--recorded", type=Path, help="bag with a detector's outputs for this bag's stamps")
    live.add_argument("--sent", type=Path, help="log of 'vl4ad replay --log' that belongs to --recorded")


def run(args: argparse.Namespace) -> int:
    """Evaluate and write."""
    if args.live and args.recorded is not None:
        raise Vl4adError("--live makes its own recording; leave --recorded out.")
    if (args.live or args.recorded is not None) and len(args.bags) > 1:
        raise Vl4adError("A live run belongs to one bag; evaluate several bags one after the other.")
    if args.live and not 0 < args.rate < math.inf:
        raise Vl4adError(f"--rate must be a number above 0, got {args.rate:g}.")
    options.check_run(args)
    _mapping(args)
    bags = _readable(args)
    if args.live:
        args.recorded, args.sent = _record(args, bags[0][0])
    if args.recorded is not None:
        result = _evaluate_recorded(args, bags)
    else:
        result = options.evaluate_source(args, _source(args, bags), options.detector_spec(args), args.track)
    options.print_headline(result, args.out)
    return 0


def _readable(args: argparse.Namespace) -> list[Bag]:
    """Return the bags, or what can be recovered of them into `--out`, and what is lost of each."""
    from vl4ad_ros.io.bag_recovery import readable_bag

    # By number: bags of several folders may have the same name.
    return [readable_bag(bag, args.out / "recovered" / str(number)) for number, bag in enumerate(args.bags)]


def _record(args: argparse.Namespace, bag_path: Path) -> tuple[Path, Path]:
    """Replay the bag through a running detector; return the recording and the log of what was sent."""
    import shutil

    from vl4ad_ros.evaluation.live_run import run_live
    from vl4ad_ros.io.bag_reader import BagReader

    with BagReader(bag_path) as bag:
        if args.label_topic is not None:
            bag.image_topic(args.label_topic)
        topic = bag.image_topic(args.image_topic, labels=args.label_topic)
        compressed = bag.topics()[topic].endswith("CompressedImage")
        logged = [image.log_ns for image in bag.images(topic)]
    shutil.rmtree(args.out / "recording", ignore_errors=True)
    seconds = (max(logged) - min(logged)) / 1e9 if logged else 0.0
    run = run_live(
        bag_path, topic, args.out, seconds, compressed, args.bundle, args.prompt_set, args.rate, _parameters(args)
    )
    return run.recording, run.sent


def _parameters(args: argparse.Namespace) -> dict[str, str]:
    """Return the node's parameters besides bundle and prompt set."""
    given = {"backend": args.backend, "method": args.method, "threads": str(args.threads)}
    if args.scoring is not None:
        given["scoring"] = args.scoring
    network = random_word_network(args)
    if network is not None:
        given["random_word"] = network
    if args.threshold is not None:
        given["threshold"] = str(float(args.threshold))
    if args.temperature is not None:
        given["temperature"] = str(float(args.temperature))
    return given


def _mapping(args: argparse.Namespace) -> LabelMapping:
    """Return what the labels' values mean."""
    from vl4ad_ros.io.labels import LabelMapping, parse_values

    return LabelMapping(parse_values(args.anomaly), parse_values(args.void))


def _source(
    args: argparse.Namespace, bags: list[Bag], latency_ms: dict[int, dict[str, float]] | None = None
) -> FrameSource:
    from vl4ad_ros.evaluation.bag_source import BagSource
    from vl4ad_ros.evaluation.frames import JoinedSource

    sources = []
    for bag, lost in bags:
        try:
            source = BagSource(
                bag, args.image_topic, args.label_topic, _mapping(args), recorded=args.recorded, latency_ms=latency_ms
            )
        except Vl4adError as error:
            if lost is None:
                raise
            raise Vl4adError(f"{lost} {error}") from error
        source.found += [lost] if lost else []
        sources.append(source)
    return sources[0] if len(sources) == 1 else JoinedSource(sources)


def _evaluate_recorded(args: argparse.Namespace, bags: list[Bag]) -> EvaluationResult:
    """Evaluate what a running detector published; what it dropped counts as dropped, not as wrong."""
    from vl4ad_ros.evaluation.live_statistics import latencies, live_statistics, read_recorded, read_sent
    from vl4ad_ros.evaluation.predictor import Recording

    arrived, about = read_recorded(args.recorded)
    if args.sent is None:
        return options.evaluate_source(args, _source(args, bags), Recording(about), args.track)
    sent = read_sent(args.sent)
    source = _source(args, bags, latencies(sent, arrived))
    live = live_statistics(sent, arrived)
    return options.evaluate_source(args, source, Recording(about), args.track, live)
