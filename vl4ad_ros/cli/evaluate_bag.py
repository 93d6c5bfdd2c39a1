"""`vl4ad evaluate bag`: a recorded drive, frame by frame in code, or as a running detector saw it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vl4ad_ros.cli.evaluate_run import (
    RunOptions,
    detector_spec,
    evaluate_source,
    print_headline,
    read_run,
    run_live_bag,
)
from vl4ad_ros.cli.options import Group, Map, Model, Rate
from vl4ad_ros.evaluation.bag_source import BagSource
from vl4ad_ros.evaluation.drives import Planner
from vl4ad_ros.evaluation.frames import JoinedSource
from vl4ad_ros.evaluation.groups import intervals
from vl4ad_ros.io.bag_recovery import readable_bag
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.labels import LabelMapping, parse_values
from vl4ad_ros.runtime.settings import GroundSettings, MapSettings, ModelSettings, PromptSettings, TrackSettings


def bag(
    bags: list[Path],
    /,
    *,
    image_topic: str | None = None,
    label_topic: str | None = None,
    anomaly: str = "1",
    void: str = "255",
    model: Model = ModelSettings(),
    prompts: Map = MapSettings(),
    run: Annotated[RunOptions, Group],
    live: bool = False,
    rate: Rate = 1.0,
    tracks: Annotated[TrackSettings, Parameter(name="tracks")] = TrackSettings(),
    ground: Annotated[GroundSettings, Parameter(name="ground")] = GroundSettings(),
    recorded: Path | None = None,
    sent: Path | None = None,
    note: str | None = None,
) -> None:
    """Measure the detector on a bag: in code (every frame), from a recording of a live run, or live (--live).

    Args:
        bags: Rosbag2 folder, .mcap or .db3; several: one result.
        image_topic: Topic of the camera; not needed where there is only one.
        label_topic: Topic of the ground truth (1 anomaly, 0 none, 255 void).
        anomaly: Label values that are anomalies, e.g. 1 or 3-5.
        void: Label values that are left out.
        model: What runs.
        prompts: What is asked.
        run: What is measured.
        live: Replay the bag through a running detector node.
        rate: Speed of the replay (--live).
        tracks: As the node's parameters.
        ground: As the node's parameters; distances need --ground.height and a camera_info.
        recorded: Bag with a detector's outputs for this bag's stamps.
        sent: Log of 'vl4ad replay --log' that belongs to --recorded.
        note: What the report has to say of the run beside its own findings.
    """
    if live and recorded is not None:
        raise Vl4adError("--live makes its own recording; leave --recorded out.")
    if (live or recorded is not None) and len(bags) > 1:
        raise Vl4adError("A live run belongs to one bag; evaluate several bags one after the other.")
    mapping = LabelMapping(parse_values(anomaly), parse_values(void))
    # By number: bags of several folders may have the same name.
    found = [readable_bag(path, run.out / "recovered" / str(number)) for number, path in enumerate(bags)]
    if live:
        given = PromptSettings(
            **prompts.model_dump(), threshold=run.threshold if isinstance(run.threshold, float) else None
        )
        ran = run_live_bag(found[0][0], image_topic, label_topic, run.out, model, given, rate)
        recorded, sent = ran.recording, ran.sent
    played = None if recorded is None else read_run(recorded, sent)
    latency_ms = None if played is None else played.latency_ms
    sources = []
    for path, lost in found:
        try:
            source = BagSource(path, image_topic, label_topic, mapping, recorded, latency_ms=latency_ms)
        except Vl4adError as error:
            raise (error if lost is None else Vl4adError(f"{lost} {error}")) from error
        source.found += [*filter(None, [lost, note])]
        sources.append(source)
    result = evaluate_source(
        sources[0] if len(sources) == 1 else JoinedSource(sources),
        detector_spec(model, prompts) if played is None else played.predictor,
        run,
        live=None if played is None else played.figures,
        planner=Planner(tracks, ground, {source.path.name: source.vehicle() for source in sources}),
        groups=None if played is None else intervals(played.states, sources[0].stamps_ns),
    )
    print_headline(result, run.out)
