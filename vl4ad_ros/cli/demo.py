"""`vl4ad demo`: a drive through the live detector over DDS, to one HTML report."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from vl4ad_ros.cli.bags import sample_drive
from vl4ad_ros.cli.evaluate_run import RECORDING, REPORT, RunOptions, evaluate_source, read_run, run_live_bag
from vl4ad_ros.cli.options import Model, Prompts, Rate, Whole, parse_size
from vl4ad_ros.drive.road import EYE, camera_pitch
from vl4ad_ros.evaluation.bag_source import BagSource
from vl4ad_ros.evaluation.drives import Planner
from vl4ad_ros.evaluation.groups import intervals
from vl4ad_ros.io.bag_reader import BagReader
from vl4ad_ros.io.bag_writer import IMAGE_TOPIC, LABEL_TOPIC
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.settings import GroundSettings, ModelSettings, PromptSettings

_TRIALS = 9


def demo(
    *,
    out: Path = Path("out/demo"),
    bag: Path | None = None,
    topic: str | None = None,
    label_topic: str | None = None,
    model: Model = ModelSettings(),
    prompts: Prompts = PromptSettings(),
    rate: Rate | None = None,
    seed: Whole = 0,
    frames: Whole = 120,
    size: str = "960x540",
) -> None:
    """Play a drive through the live detector node, over DDS, and write one HTML report with pictures and figures.

    Args:
        out: Folder of the report and all that led to it.
        bag: Your own bag instead of a procedural drive.
        topic: Image topic of your bag; not needed where there is only one.
        label_topic: Topic of the ground truth of your bag (0 normal, 1 anomaly, 255 void).
        model: What runs.
        prompts: What is asked.
        rate: Speed of playing, 1 = as recorded; by default that, or less if the machine is slower.
        seed: Of the procedural drive.
        frames: Of the procedural drive.
        size: WIDTHxHEIGHT of the procedural drive.
    """
    from vl4ad_ros.evaluation.report import drive_in_words, headline

    started = time.monotonic()
    if bag is None and (topic or label_topic):
        raise Vl4adError("--topic and --label-topic belong to a bag of yours; name it with --bag.")
    if bag is not None and bag.resolve().is_relative_to(out.resolve()):
        raise Vl4adError(f"The bag {bag} lies in {out}, which the demo writes anew; name another --out.")
    ModelBundle.load(model.bundle).load_prompt_set(prompts.prompt_set)
    _clear(out)
    ground = GroundSettings()
    if bag is None:
        bag, topic, label_topic = out / "drive", IMAGE_TOPIC, LABEL_TOPIC
        ground = GroundSettings(height=EYE, pitch=camera_pitch(*parse_size(size, "WIDTHxHEIGHT")))
        sample_drive(out=bag, seed=seed, frames=frames, size=size)
    rate = _suitable_rate(bag, topic, label_topic, model, prompts) if rate is None else rate
    live = run_live_bag(bag, topic, label_topic, out, model, prompts, rate)
    run = read_run(live.recording, live.sent)
    source = BagSource(bag, topic, label_topic, recorded=live.recording, latency_ms=run.latency_ms)
    result = evaluate_source(
        source,
        run.predictor,
        RunOptions(out=out),
        live=(run.figures or {}) | {"play_rate": rate},
        planner=Planner(ground=ground, vehicles={bag.name: source.vehicle()}),
        groups=intervals(run.states, source.stamps_ns),
    )
    print(drive_in_words(result.summary))
    for name, text in headline(result.summary):
        print(f"{name:>20}  {text}")
    print(f"{'report':>20}  {(out / REPORT).resolve()}")
    print(f"{'time':>20}  {time.monotonic() - started:.0f} s")


def _clear(out: Path) -> None:
    """Remove what an earlier demo left in the folder, and nothing else."""
    for name in ("drive", RECORDING, "logs"):
        shutil.rmtree(out / name, ignore_errors=True)
    for name in (REPORT, "sent.jsonl", "result.json", "frames.jsonl", "histograms.npz"):
        (out / name).unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)


def _suitable_rate(
    path: Path, topic: str | None, label_topic: str | None, model: ModelSettings, prompts: PromptSettings
) -> float:
    """Return the speed at which this machine can follow: 1, or less where it is slower than the camera."""
    with BagReader(path) as bag:
        name = bag.image_topic(topic, labels=label_topic)
        first = next(bag.images(name), None)
        images_per_s = bag.count(name) / max(bag.duration_s(), 1e-3)
    if first is None:
        raise Vl4adError(f"{path} has no images on '{name}'.")
    image = first.rgb()
    detector = Detector.open(**model.model_dump())
    packed = detector.state(**prompts.model_dump()).prompts
    times = []
    for _ in range(_TRIALS):
        begin = time.perf_counter()
        detector.detect(image, packed)
        times.append(time.perf_counter() - begin)
    detector.close()
    # The first runs warm up. Half of the machine is left to the player, the recorder and the transport.
    rate = 0.5 / sorted(times)[_TRIALS // 2] / images_per_s
    if rate < 1:
        print(f"playing at {rate:.2f} of the recorded speed, which suits this machine (--rate 1 plays at full speed)")
    return min(rate, 1.0)
