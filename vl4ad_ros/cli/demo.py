"""`vl4ad demo`: a drive through the live detector over DDS, to one HTML report."""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from vl4ad_ros.io.errors import Vl4adError

HELP = "play a drive through the live detector node, over DDS, and write one HTML report with pictures and figures"
REPORT = "report.html"
_TRIALS = 9


@dataclass(frozen=True)
class DemoSource:
    """What the demo plays.

    Attributes:
        bag: The bag.
        image_topic: Its camera.
        label_topic: Its ground truth, or None.
        compressed: Whether the camera's images are compressed.
        seconds: Its length.
        frames: Number of images.
    """

    bag: Path
    image_topic: str
    label_topic: str | None
    compressed: bool
    seconds: float
    frames: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--out", type=Path, default=Path("out/demo"), help="folder of the report and all that led to it"
    )
    parser.add_argument("--bag", type=Path, help="your own bag instead of a procedural drive")
    parser.add_argument("--topic", help="image topic of your bag; not needed where there is only one")
    parser.add_argument("--label-topic", help="topic of the ground truth of your bag (0 normal, 1 anomaly, 255 void)")
    parser.add_argument("--bundle", default="vl4ad-small", help="model bundle: name or folder")
    parser.add_argument("--prompt-set", help="prompt set; the bundle's own by default")
    parser.add_argument(
        "--rate",
        type=float,
        help="speed of playing, 1 = as recorded; by default that, or less if the machine is slower",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the procedural drive")
    parser.add_argument("--frames", type=int, default=120, help="of the procedural drive")
    parser.add_argument("--size", default="960x540", help="WIDTHxHEIGHT of the procedural drive")


def run(args: argparse.Namespace) -> int:
    """Draw (or take) a drive, play it live, evaluate, report."""
    from vl4ad_ros.runtime.bundle import ModelBundle

    started = time.monotonic()
    if args.bag is None and (args.topic or args.label_topic):
        raise Vl4adError("--topic and --label-topic belong to a bag of yours; name it with --bag.")
    if args.rate is not None and not args.rate > 0:
        raise Vl4adError(f"--rate must be more than 0, got {args.rate:g}.")
    if args.bag is not None and args.bag.resolve().is_relative_to(args.out.resolve()):
        raise Vl4adError(f"The bag {args.bag} lies in {args.out}, which the demo writes anew; name another --out.")
    bundle = ModelBundle.load(args.bundle)
    bundle.load_prompt_set(args.prompt_set)
    out: Path = args.out
    _clear(out)
    source = _own_bag(args) if args.bag is not None else _sample(args)
    report, figures = _play_and_report(source, out, args)
    for name, text in figures:
        print(f"{name:>20}  {text}")
    print(f"{'report':>20}  {report.resolve()}")
    print(f"{'time':>20}  {time.monotonic() - started:.0f} s")
    return 0


def _clear(out: Path) -> None:
    """Remove what an earlier demo left in the folder, and nothing else."""
    for name in ("drive", "recording", "logs"):
        shutil.rmtree(out / name, ignore_errors=True)
    for name in (REPORT, "sent.jsonl", "result.json", "frames.jsonl", "histograms.npz"):
        (out / name).unlink(missing_ok=True)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Vl4adError(f"The folder {out} cannot be made ({error}).") from error


def _sample(args: argparse.Namespace) -> DemoSource:
    from vl4ad_ros.cli.sample_drive import parse_size, write_drive
    from vl4ad_ros.drive.record import IMAGE_TOPIC, LABEL_TOPIC

    bag = args.out / "drive"
    rate = 10.0
    write_drive(bag, args.seed, args.frames, parse_size(args.size), rate)
    return DemoSource(bag, IMAGE_TOPIC, LABEL_TOPIC, False, args.frames / rate, args.frames)


def _own_bag(args: argparse.Namespace) -> DemoSource:
    from vl4ad_ros.io.bag_reader import BagReader

    with BagReader(args.bag) as bag:
        topic = bag.image_topic(args.topic, labels=args.label_topic)
        label = bag.image_topic(args.label_topic) if args.label_topic else None
        compressed = bag.topics()[topic] == "sensor_msgs/msg/CompressedImage"
        return DemoSource(args.bag, topic, label, compressed, bag.duration_s(), bag.count(topic))


def _suitable_rate(source: DemoSource, args: argparse.Namespace) -> float:
    """Return the speed at which this machine can follow: 1, or less where it is slower than the camera."""
    from vl4ad_ros.io.bag_reader import BagReader
    from vl4ad_ros.runtime.detector import Detector

    with BagReader(source.bag) as bag:
        first = next(bag.images(source.image_topic), None)
    if first is None:
        raise Vl4adError(f"{source.bag} has no images on '{source.image_topic}'.")
    image = first.rgb()
    detector = Detector.open(args.bundle)
    prompts = detector.prompts(args.prompt_set)
    times = []
    for _ in range(_TRIALS):
        begin = time.perf_counter()
        detector.detect(image, prompts)
        times.append(time.perf_counter() - begin)
    detector.close()
    # The first runs warm up. Half of the machine is left to the player, the recorder and the transport.
    rate = 0.5 / sorted(times)[_TRIALS // 2] / max(source.frames / max(source.seconds, 1e-3), 1e-3)
    if rate < 1:
        print(f"playing at {rate:.2f} of the recorded speed, which suits this machine (--rate 1 plays at full speed)")
    return min(rate, 1.0)


def _play_and_report(source: DemoSource, out: Path, args: argparse.Namespace) -> tuple[Path, list[tuple[str, str]]]:
    """Run live, evaluate what was recorded, write the report; return its path and the headline figures."""
    from tqdm import tqdm

    from vl4ad_ros.evaluation.bag_source import BagSource
    from vl4ad_ros.evaluation.live_run import run_live
    from vl4ad_ros.evaluation.live_statistics import latencies, live_statistics, read_recorded, read_sent
    from vl4ad_ros.evaluation.predictor import Recording
    from vl4ad_ros.evaluation.report import headline, write_report
    from vl4ad_ros.evaluation.result import summarise_run, write_result
    from vl4ad_ros.evaluation.run import EvaluationSettings, about_run, evaluate

    rate = _suitable_rate(source, args) if args.rate is None else args.rate
    live = run_live(
        source.bag, source.image_topic, out, source.seconds, source.compressed, args.bundle, args.prompt_set, rate
    )
    sent = read_sent(live.sent)
    arrived, detector = read_recorded(live.recording)
    frames = BagSource(
        source.bag, source.image_topic, source.label_topic, recorded=live.recording, latency_ms=latencies(sent, arrived)
    )
    settings = EvaluationSettings(threshold=float(detector["threshold"]))
    with tqdm(total=len(frames), unit="frame", desc="evaluating") as bar:
        found = evaluate(frames, Recording(detector), settings, progress=bar.update)
    about = about_run(frames, detector, settings)
    statistics = live_statistics(sent, arrived) | {"play_rate": rate}
    result = summarise_run(found, about, is_drive=True, live=statistics)
    write_result(out, result)
    write_report(out / REPORT, result)
    return out / REPORT, headline(result.summary)
