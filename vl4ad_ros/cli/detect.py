"""`vl4ad detect`: pictures and videos in, uncertainty maps, anomaly masks and overlays out."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vl4ad_ros.cli.random_word_options import add_random_word, random_word_network
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.engine import BACKENDS
from vl4ad_ros.runtime.scores import METHODS, SCORINGS

if TYPE_CHECKING:
    from vl4ad_ros.io.media import Picture
    from vl4ad_ros.runtime.detector import Detector
    from vl4ad_ros.runtime.frames import FrameState

HELP = "find anomalies in pictures, folders and videos; write maps, masks, overlays and result.json"
RESULT = "result.json"
FORMAT = "vl4ad_ros.detect/1"
FAULTS_SHOWN = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("inputs", type=Path, nargs="+", metavar="INPUT", help="pictures, videos, or folders of them")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--bundle", default="vl4ad-small", help="model bundle: name or folder")
    parser.add_argument("--prompt-set", help="prompt set: name or .safetensors file; the bundle's own by default")
    parser.add_argument("--scoring", choices=SCORINGS, help="score; default: the bundle's")
    parser.add_argument("--method", default="vl4ad", choices=[*METHODS, "both"], help="anomaly method of the bundle")
    add_random_word(parser)
    parser.add_argument("--temperature", type=float, help="overrides the prompt set's and the model's temperature")
    parser.add_argument("--threshold", type=float, help="mask where uncertainty >= this; the bundle's own by default")
    parser.add_argument(
        "--format", default="npy", choices=["npy", "png16"], help="of the maps: float32, or 16-bit PNG (times 65535)"
    )
    parser.add_argument("--backend", default="onnxruntime", choices=BACKENDS, help="inference backend")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the engine; 0 lets it choose")
    parser.add_argument("--no-overlay", action="store_true", help="write no overlays")


def run(args: argparse.Namespace) -> int:
    """Process the inputs."""
    from tqdm import tqdm

    from vl4ad_ros.io.media import find_inputs
    from vl4ad_ros.runtime.detector import Detector

    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise Vl4adError(f"--threshold must be between 0 and 1, got {args.threshold:g}.")
    inputs = find_inputs(args.inputs)
    detector = Detector.open(args.bundle, args.backend, args.threads)
    try:
        network = random_word_network(args)
        state = detector.state(args.prompt_set, args.scoring, args.temperature, args.method, network, args.threshold)
        try:
            args.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Vl4adError(f"The folder {args.out} cannot be made ({error}).") from error
        files: list[dict[str, Any]] = []
        faults: list[str] = []
        started = time.perf_counter()
        with tqdm(total=sum(entry.count for entry in inputs), unit="frame", desc="detecting") as bar:
            for entry in inputs:
                try:
                    for picture in entry.pictures():
                        files.append(_process(picture, detector, state, args))
                        bar.update()
                except Vl4adError as error:  # One broken file does not stop the others.
                    named = str(entry.path) in str(error)
                    faults.append(str(error) if named else f"{entry.path}: {error}")
        seconds = time.perf_counter() - started
        _write_result(args.out, detector, state, files, faults, seconds)
    finally:
        detector.close()
    print(f"{len(files)} pictures in {seconds:.1f} s; results in {args.out}")
    if faults:
        shown = faults[:FAULTS_SHOWN]
        rest = f" and {len(faults) - len(shown)} more" if len(faults) > len(shown) else ""
        raise Vl4adError(
            f"{len(faults)} of {len(inputs)} inputs could not be processed (all in {args.out / RESULT}): "
            f"{' '.join(shown)}{rest}"
        )
    return 0


def _process(picture: Picture, detector: Detector, state: FrameState, args: argparse.Namespace) -> dict[str, Any]:
    """Process one picture, write its files and return what result.json says of it."""
    from vl4ad_ros.io.drawing import draw_overlay
    from vl4ad_ros.io.media import write_mask, write_overlay, write_uncertainty
    from vl4ad_ros.runtime.frames import Job
    from vl4ad_ros.runtime.scores import image_score

    (result,) = detector.process([Job(picture.image)], state)
    uncertainty, mask = result.uncertainty, result.mask
    assert mask is not None
    written = {
        "uncertainty": write_uncertainty(args.out, picture.stem, uncertainty, args.format).name,
        "mask": write_mask(args.out, picture.stem, mask).name,
    }
    if not args.no_overlay:
        overlay = draw_overlay(picture.image, uncertainty, mask)
        written["overlay"] = write_overlay(args.out, picture.stem, overlay).name
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


def _write_result(
    out: Path,
    detector: Detector,
    state: FrameState,
    files: list[dict[str, Any]],
    faults: list[str],
    seconds: float,
) -> None:
    import numpy as np

    from vl4ad_ros.io.files import sha256_file
    from vl4ad_ros.io.provenance import provenance
    from vl4ad_ros.runtime.bundle import CARD

    bundle, prompts = detector.bundle, state.prompts
    table = {name: [entry["latency_ms"][name] for entry in files] for name in ("preprocess", "engine", "postprocess")}
    result = {
        "format": FORMAT,
        **provenance(),
        "bundle": {"name": bundle.card.name, "path": str(bundle.path), "card_sha256": sha256_file(bundle.path / CARD)},
        "engine": detector.engine.info.as_dict(),
        "prompt_set": prompts.prompt_set.summary(),
        "scoring": prompts.scoring,
        "method": state.method,
        "random_word": state.random_word,
        "temperature": prompts.temperature,
        "threshold": state.threshold,
        "seconds": round(seconds, 3),
        "latency_ms": {name: {"median": float(np.median(v)), "max": max(v)} for name, v in table.items() if v},
        "faults": faults,
        "pictures": files,
    }
    (out / RESULT).write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
