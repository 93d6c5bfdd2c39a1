"""The paper's ablation on any bundle: from the vision-only twin to the last of VL4AD's steps, one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vl4ad_ros.evaluation.datasets import DatasetSource, require_whole
from vl4ad_ros.evaluation.frames import Frame
from vl4ad_ros.evaluation.layouts import layout
from vl4ad_ros.evaluation.pictures import TRUTH, fit_width
from vl4ad_ros.evaluation.pixel_metrics import PixelMetrics, PixelResult
from vl4ad_ros.io.drawing import draw_overlay
from vl4ad_ros.io.files import write_bytes
from vl4ad_ros.io.media import encode_jpeg
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.runtime.prompt_tensors import PromptTensors

PICTURE_WIDTH, PICTURES = 480, 4


@dataclass(frozen=True)
class Step:
    """One row of the table."""

    label: str
    detector: int  # index of the detector that runs it
    prompts: PromptTensors  # packed prompt set and scoring


@dataclass(frozen=True)
class Row:
    """A step's result on one data set."""

    step: Step
    dataset: str
    result: PixelResult


def names_only(prompt_set: CompiledPromptSet) -> CompiledPromptSet:
    """Keep one concept, the first, of each column: the set without max-logit prompt ensembling."""
    _, first = np.unique(prompt_set.concept_column, return_index=True)
    return replace(
        prompt_set,
        name=f"{prompt_set.name}-names",
        concepts=tuple(prompt_set.concepts[index] for index in first),
        concept_column=np.arange(len(first), dtype=np.int32),
        embeddings=prompt_set.embeddings[first].copy(),
    )


def make_steps(detectors: Sequence[Detector]) -> list[Step]:
    """The rows, in the paper's order, for the vision-language bundle and, where there is one, its vision-only twin."""
    steps: list[Step] = []

    def add(label: str, which: int, prompt_set: CompiledPromptSet, scoring: str = "vl4ad") -> None:
        used = detectors[which]
        packed = used.bundle.card.pack(prompt_set, scoring, random_word=used.prompts().random_word)
        steps.append(Step(label, which, packed))

    if len(detectors) > 1:
        twin = detectors[1].bundle.load_prompt_set()
        add("vision-only, MSP", 1, twin, "msp")
        add("vision-only, Eq. 2", 1, twin)
    bundle = detectors[0].bundle
    classes = bundle.load_prompt_set("cityscapes")
    merged = bundle.load_prompt_set("cityscapes_superclasses")
    add("VL, class names, MSP", 0, names_only(classes), "msp")
    add("VL, class names, Eq. 2", 0, names_only(classes))
    add("+ max-logit ensembling", 0, classes)
    add("+ class merging", 0, merged)
    add("+ OOD prompts", 0, bundle.load_prompt_set("cityscapes_ood"))
    for scoring in ("max_logit", "entropy", "rba"):
        add(f"VL, merged, {scoring}", 0, merged, scoring)
    return steps


def run_steps(
    detectors: Sequence[Detector],
    steps: Sequence[Step],
    root: Path,
    name: str,
    pictures: Path | None,
    stride: int = 1,
) -> Iterator[tuple[int, int] | list[Row]]:
    """Evaluate all steps on one data set, with montages of a few frames into `pictures`; each frame is read once.

    Yields (frames done, frames in all) after each frame, at last the rows.
    """
    source = DatasetSource(root, layout(name))
    metrics = [PixelMetrics() for _ in steps]
    indices = range(0, len(source), stride)
    shown = {indices[round(place)] for place in np.linspace(0, len(indices) - 1, min(PICTURES, len(indices)))}
    for done, frame in enumerate(source.frames(indices), start=1):
        assert frame.labels is not None
        maps = [detectors[step.detector].detect(frame.image, step.prompts, frame.labels.shape) for step in steps]
        for one, collector in zip(maps, metrics, strict=True):
            collector.add(one, frame.labels)
        if pictures is not None and frame.index in shown:
            write_bytes(pictures / f"{name}-{frame.name}.jpg", montage(frame, steps, maps))
        yield done, len(indices)
    require_whole(source)
    yield [Row(step, name, collector.result()) for step, collector in zip(steps, metrics, strict=True)]


def montage(frame: Frame, steps: Sequence[Step], maps: Sequence[npt.NDArray[np.float32]]) -> bytes:
    """The frame with the outline of the truth, and every step's overlay, as JPEG."""
    image = np.ascontiguousarray(fit_width(frame.image, PICTURE_WIDTH))
    first = image.copy()
    if frame.labels is not None:
        truth = fit_width((frame.labels == 1).astype(np.uint8), image.shape[1], nearest=True)
        outlines, _ = cv2.findContours(truth, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(first, outlines, -1, TRUTH, 2)
    tiles = [first, *(draw_overlay(image, one, caption=[s.label]) for s, one in zip(steps, maps, strict=True))]
    columns = 4
    tiles += [np.zeros_like(image)] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    return encode_jpeg(np.vstack(rows))


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table: AP / FPR95 / AUROC in percent, of several rows mean ± standard deviation."""
    found: dict[str, dict[str, list[PixelResult]]] = {}
    for row in rows:
        found.setdefault(row.step.label, {}).setdefault(row.dataset, []).append(row.result)
    names = list(dict.fromkeys(row.dataset for row in rows))
    lines = [["step", *(f"{name}: AP / FPR95 / AUROC" for name in names)]]
    lines += [[label, *(_cell(results[name]) for name in names)] for label, results in found.items()]
    head, *body = (f"| {' | '.join(cells)} |" for cells in lines)
    return "\n".join([head, "|" + "---|" * len(lines[0]), *body])


def _cell(results: Sequence[PixelResult]) -> str:
    figures = 100 * np.array([(one.ap, one.fpr95, one.auroc) for one in results])
    texts = [f"{mean:.1f}" for mean in figures.mean(axis=0)]
    if len(results) > 1:
        texts = [f"{mean} ± {spread:.1f}" for mean, spread in zip(texts, figures.std(axis=0, ddof=1), strict=True)]
    return " / ".join(texts)


def plain(rows: Sequence[Row], detectors: Sequence[Detector]) -> dict[str, Any]:
    """The rows as plain data for JSON, with what identifies bundles and prompt sets."""
    return {
        "bundles": [
            {"name": d.bundle.card.name, "onnx_sha256": d.bundle.onnx_sha256, "engine": d.engine.info.library}
            for d in detectors
        ],
        "rows": [
            {
                "step": row.step.label,
                "dataset": row.dataset,
                "scoring": row.step.prompts.scoring,
                "prompt_set": row.step.prompts.prompt_set.name,
                "prompt_set_version": row.step.prompts.prompt_set.version,
                "temperature": row.step.prompts.temperature,
                **asdict(row.result),
            }
            for row in rows
        ],
    }
