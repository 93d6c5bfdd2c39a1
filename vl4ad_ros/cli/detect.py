"""`vl4ad detect`: pictures and videos in, uncertainty maps, anomaly masks and overlays out."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from vl4ad_ros.cli.options import Model, Prompts, noted, report
from vl4ad_ros.io.drawing import draw_overlay
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import sha256_file, write_json
from vl4ad_ros.io.media import ENDINGS, Picture, find_inputs, write_mask, write_overlay, write_uncertainty
from vl4ad_ros.io.provenance import provenance
from vl4ad_ros.network.pixel_explainer import PixelExplainer
from vl4ad_ros.runtime.bundle import CARD
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.frames import FrameState, Job, Result, Wanted
from vl4ad_ros.runtime.scores import image_score
from vl4ad_ros.runtime.settings import ModelSettings, PromptSettings

RESULT = "result.json"
FORMAT = "vl4ad_ros.detect/1"


def detect(
    inputs: list[Path],
    /,
    *,
    out: Path,
    model: Model = ModelSettings(),
    prompts: Prompts = PromptSettings(),
    format: Literal["npy", "png16"] = "npy",
    no_overlay: bool = False,
    explain: bool = False,
) -> None:
    """Find anomalies in pictures, folders and videos; write maps, masks, overlays and result.json.

    Args:
        inputs: Pictures, videos, or folders of them.
        out: Folder for the results.
        model: What runs.
        prompts: What is asked.
        format: Of the maps: float32, or 16-bit PNG (times 65535).
        no_overlay: Write no overlays.
        explain: Name the concepts nearest to each region of the mask in result.json; for dense networks.
    """
    if any(path.is_dir() and path.resolve() == out.resolve() for path in inputs):
        raise Vl4adError(f"--out {out} is an input folder: the next run would take its masks for pictures.")
    found = find_inputs(inputs)
    detector = Detector.open(**model.model_dump())
    try:
        state = detector.state(**prompts.model_dump())
        explainer = PixelExplainer(detector.bundle) if explain else None
        out.mkdir(parents=True, exist_ok=True)
        (out / RESULT).unlink(missing_ok=True)  # Written last: where it is, it tells of whole files of one run.
        files: list[dict[str, Any]] = []
        faults: list[str] = []
        started = time.perf_counter()
        with tqdm(total=sum(entry.count for entry in found), unit="frame", desc="detecting") as bar:
            for entry in found:
                with noted(faults, entry.path):
                    for picture in entry.pictures():
                        (result,) = detector.process([Job(picture.image, Wanted(regions=explain))], state)
                        files.append(_write(picture, result, out, format, not no_overlay))
                        if explainer is not None:
                            files[-1]["regions"] = _explain(picture, result, detector, state, explainer)
                        bar.update()
        seconds = time.perf_counter() - started
        write_json(out / RESULT, _about(detector, state, files, seconds) | {"faults": faults, "pictures": files})
    finally:
        detector.close()
    print(f"{len(files)} pictures in {seconds:.1f} s; results in {out}")
    written = {name for entry in files for name in entry["files"].values()}
    others = sum(path.name.endswith(ENDINGS) and path.name not in written for path in out.iterdir())
    if others:
        print(f"note: {others} files in {out} are an earlier run's; {RESULT} lists those of this one")
    report(faults, len(found), f" (all in {out / RESULT})")


def _explain(
    picture: Picture, result: Result, detector: Detector, state: FrameState, explainer: PixelExplainer
) -> list[dict[str, Any]]:
    """Return the regions of a picture, each with what explains the pixels in its box."""
    embedding = explainer.embed(detector.preprocess(picture.image))
    regions = []
    for region in result.regions or ():
        box = region.x, region.y, region.x + region.width, region.y + region.height
        pixels = explainer.in_box(embedding, box, picture.image.shape[:2])
        explanation = explainer.explain(pixels, state.prompts, state.threshold)
        regions.append(region.as_dict() | {"explanation": asdict(explanation)})
    return regions


def _write(picture: Picture, result: Result, out: Path, format: str, overlay: bool) -> dict[str, Any]:
    """Write a picture's files; return what result.json says of it."""
    uncertainty, mask = result.uncertainty, result.mask
    assert mask is not None
    written = {
        "uncertainty": write_uncertainty(out, picture.stem, uncertainty, format).name,
        "mask": write_mask(out, picture.stem, mask).name,
    }
    if overlay:
        written["overlay"] = write_overlay(out, picture.stem, draw_overlay(picture.image, uncertainty, mask)).name
    return {
        "source": str(picture.source),
        "stem": picture.stem,
        "height": int(mask.shape[0]),
        "width": int(mask.shape[1]),
        "files": written,
        "mask_share": float((mask > 0).mean()),
        "image_score": image_score(uncertainty),
        "uncertainty_mean": float(uncertainty.mean()),
        "uncertainty_max": float(uncertainty.max()),
        "latency_ms": {name: round(value, 3) for name, value in result.milliseconds.items()},
    }


def _about(detector: Detector, state: FrameState, files: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Return what result.json says of the run."""
    bundle, prompts = detector.bundle, state.prompts
    table = {name: [entry["latency_ms"][name] for entry in files] for name in ("preprocess", "engine", "postprocess")}
    return {
        "format": FORMAT,
        **provenance(),
        "bundle": {"name": bundle.card.name, "path": str(bundle.path), "card_sha256": sha256_file(bundle.path / CARD)},
        "engine": asdict(detector.engine.info),
        "prompt_set": prompts.prompt_set.summary(),
        "scoring": prompts.scoring,
        "method": state.method,
        "random_word": state.random_word,
        "temperature": prompts.temperature,
        "threshold": state.threshold,
        "seconds": round(seconds, 3),
        "latency_ms": {name: {"median": float(np.median(v)), "max": max(v)} for name, v in table.items() if v},
    }
