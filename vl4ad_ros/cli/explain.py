"""`vl4ad explain`: the concepts that a place in a picture is near to, and the class that explains it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

from vl4ad_ros.cli.options import Count, Json, Model, Prompts
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.media import read_picture
from vl4ad_ros.network.pixel_explainer import Explanation, PixelExplainer
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.settings import ModelSettings, PromptSettings


def explain(
    image: Path,
    /,
    *,
    at: str,
    model: Model = ModelSettings(),
    prompts: Prompts = PromptSettings(),
    count: Count = 8,
    as_json: Json = False,
) -> None:
    """Show which concepts a place in a picture is near to, which class explains it, and what would end an alarm.

    Args:
        image: A picture.
        at: X,Y of a pixel, or X0,Y0,X1,Y1 of a box, in pixels of the picture.
        model: What runs; a bundle with a dense network.
        prompts: What is asked.
        count: How many concepts to name.
        as_json: Print JSON.
    """
    picture = read_picture(image)
    box = _parse_box(at, picture.shape[1], picture.shape[0])
    detector = Detector.open(**model.model_dump())
    try:
        state = detector.state(**prompts.model_dump())
        explainer = PixelExplainer(detector.bundle)
        pixels = explainer.in_box(explainer.embed(detector.preprocess(picture)), box, picture.shape[:2])
        found = explainer.explain(pixels, state.prompts, state.threshold, count)
    finally:
        detector.close()
    print(json.dumps(asdict(found), indent=1) if as_json else _as_text(found, state.threshold))


def _parse_box(text: str, width: int, height: int) -> tuple[int, int, int, int]:
    """Return first column and row, and the ones behind the last."""
    match = re.fullmatch(r"(\d{1,6}),(\d{1,6})(?:,(\d{1,6}),(\d{1,6}))?", text.replace(" ", ""))
    if match is None:
        raise Vl4adError(f"--at is X,Y or X0,Y0,X1,Y1 in pixels, got '{text}'.")
    x0, y0 = int(match[1]), int(match[2])
    x1, y1 = (x0 + 1, y0 + 1) if match[3] is None else (int(match[3]), int(match[4]))
    if not (x0 < x1 <= width and y0 < y1 <= height):
        raise Vl4adError(f"--at {text} does not lie in the picture of {width}x{height} pixels.")
    return x0, y0, x1, y1


def _as_text(found: Explanation, threshold: float) -> str:
    lines = found.sentences(threshold)
    lines.append(f"{'cosine':>8}  concept (class)")
    lines += [
        f"{near.cosine:8.3f}  {near.concept} ({near.column}{'' if near.known else ', out of distribution'})"
        for near in found.concepts
    ]
    return "\n".join(lines)
