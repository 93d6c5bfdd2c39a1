"""`vl4ad evaluate dataset`: the detector on a benchmark's folder, or on any folder of images and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import Field, PositiveInt

from vl4ad_ros.cli.evaluate_run import RunOptions, detector_spec, evaluate_source, print_headline
from vl4ad_ros.cli.options import Group, Map, Model
from vl4ad_ros.cli.random_word import GapOptions
from vl4ad_ros.evaluation.datasets import DatasetSource
from vl4ad_ros.evaluation.exports import write_submission
from vl4ad_ros.evaluation.groups import read_categories
from vl4ad_ros.evaluation.layouts import LAYOUTS, folder_layout, layout
from vl4ad_ros.evaluation.predictor import PredictorSpec
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.labels import LabelMapping, parse_values
from vl4ad_ros.prompts.encoders import OPEN_CLIP_PREFIX
from vl4ad_ros.runtime.settings import MapSettings, ModelSettings


class WindowOptions(GapOptions):
    """How a CLIP model runs, which --bundle open_clip:MODEL/PRETRAINED --method random_word names."""

    weights: Path | None = Field(default=None, description="Of a CLIP model: local weights file.")
    windows: Annotated[tuple[PositiveInt, ...], Parameter(consume_multiple=True)] = Field(
        default=(2, 3), description="Of a CLIP model: window sizes in patches."
    )
    most_images: PositiveInt = Field(default=16, description="Images used, spread evenly over the folder.")


Name = Annotated[str, Parameter(help=f"One of {', '.join(LAYOUTS)}, or folder (images/ and labels/).")]


def dataset(
    name: Name,
    path: Path,
    /,
    *,
    anomaly: str = "1",
    void: str = "255",
    normal: str | None = None,
    model: Model = ModelSettings(),
    prompts: Map = MapSettings(),
    run: Annotated[RunOptions, Group],
    clip: Annotated[WindowOptions, Group] = WindowOptions(),
    categories: Path | None = None,
    submission: Path | None = None,
    method_name: str = "vl4ad_ros",
) -> None:
    """Run the detector on a data set and measure it (road_anomaly, camvid_ood, road_anomaly_21, folder, ...).

    Args:
        name: Its layout.
        path: The data set's folder.
        anomaly: Of 'folder': label values that are anomalies, e.g. 1, 3-5 or #ff6600.
        void: Of 'folder': label values that are left out.
        normal: Of 'folder': label values that are no anomalies; default: all others.
        model: What runs.
        prompts: What is asked.
        run: What is measured.
        clip: How a CLIP model runs.
        categories: YAML file, category: [frame names]; each gets figures of its own.
        submission: Write the SegmentMeIfYouCan submission layout here, too.
        method_name: Name of the method in the submission.
    """
    if name == "folder":
        values = None if normal is None else parse_values(normal)
        mapping = LabelMapping(parse_values(anomaly), parse_values(void), values)
        chosen = folder_layout(mapping, run.track or "anomaly")
    else:
        chosen = layout(name)
    source = DatasetSource(path, chosen)
    groups = None if categories is None else read_categories(categories, source.names)
    spec: PredictorSpec = _clip_windows(model, prompts, clip) or detector_spec(model, prompts)
    if submission is not None:
        everything = DatasetSource(path, chosen, with_unlabelled=True)
        count = write_submission(submission, everything, spec, method_name)
        print(f"{count} score maps for SegmentMeIfYouCan in {submission}")
        for problem in everything.problems:
            print(f"note: {problem}")
    result = evaluate_source(source, spec, run, chosen.track, region_overlap=chosen.products, groups=groups)
    print_headline(result, run.out)


def _clip_windows(model: ModelSettings, prompts: MapSettings, clip: WindowOptions) -> PredictorSpec | None:
    """Return the CLIP model that the options name; None where they name a bundle."""
    if not model.bundle.startswith(OPEN_CLIP_PREFIX):
        if clip.images is not None or clip.weights is not None:
            raise Vl4adError("--images and --weights are for a CLIP model (--bundle open_clip:MODEL/PRETRAINED).")
        return None
    if prompts.method != "random_word" or prompts.random_word is None:
        raise Vl4adError(
            f"--bundle {model.bundle} takes --method random_word and --random-word NETWORK: a .safetensors file, or a "
            "prompt family (road, products) to compare cosines without training."
        )
    from vl4ad_ros.random_word.clip_windows import ClipWindowSpec

    return ClipWindowSpec(
        model.bundle, prompts.random_word, clip.weights, clip.windows, clip.images, clip.most_images, clip.reference
    )
