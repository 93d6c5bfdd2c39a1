"""Validation: mIoU on the validation splits; AP and recall by size, and false alarms, on scenes of unseen roads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from vl4ad_ros.evaluation.pixel_metrics import PixelMetrics
from vl4ad_ros.evaluation.prompt_thresholds import LEVELS, count_alarms, lowest_level
from vl4ad_ros.network.onnx_export import run_torch
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.frames import upsample
from vl4ad_ros.runtime.prompt_tensors import pack
from vl4ad_ros.training.augment import UInt8
from vl4ad_ros.training.config import Validation
from vl4ad_ros.training.data import RunData
from vl4ad_ros.training.frames import Frames
from vl4ad_ros.training.label_tables import IGNORE, LabelTable
from vl4ad_ros.training.learner import LIMITS, Learner
from vl4ad_ros.training.validation_scenes import SIZES, ValidationScene

ALARMS_PER_FRAME = 0.1
"""False alarms a frame at which the recall is stated."""

Map = npt.NDArray[np.float32]


def resized(image: UInt8, pixels: int) -> UInt8:
    """A picture with about `pixels` pixels, its aspect, and sides that are multiples of 32."""
    factor = (pixels / (image.shape[0] * image.shape[1])) ** 0.5
    height, width = (max(64, round(side * factor / 32) * 32) for side in image.shape[:2])
    way = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=way).astype(np.uint8)


@torch.no_grad()
def logits_of(learner: Learner, image: UInt8, pixels: int) -> Tensor:
    """Logits [K+1,h,w] of one picture, seen at an area of `pixels`."""
    device = learner.concepts.device
    tensor = torch.from_numpy(resized(image, pixels)).permute(2, 0, 1)[None].float().to(device)
    class_concepts = learner.text.class_concepts().to(device)
    return learner.dense_logits(tensor.contiguous(memory_format=torch.channels_last), class_concepts)[0].float().cpu()


def mean_iou(learner: Learner, frames: Frames, table: LabelTable, index: int, pixels: int) -> float:
    """Return the mIoU over the own labels of the table's set `index`; a label's probability is that of its classes."""
    rows = table.rows_of_set(index)
    members = torch.from_numpy(table.rows[rows]).float()
    confusion = np.zeros((len(rows), len(rows)), np.int64)
    position = np.full(256, IGNORE, np.uint8)
    position[rows] = np.arange(len(rows), dtype=np.uint8)
    for image, target in zip(frames.images, frames.rows, strict=True):
        logits = logits_of(learner, image, pixels)[None, :-1]
        size = (target.shape[0], target.shape[1])
        probability = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)[0].softmax(0)
        predicted = torch.einsum("rk,khw->rhw", members, probability).argmax(0).numpy()
        truth = position[target]
        valid = truth != IGNORE
        pairs = truth[valid].astype(np.int64) * len(rows) + predicted[valid]
        confusion += np.bincount(pairs, minlength=len(rows) ** 2).reshape(len(rows), len(rows))
    union = confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    present = confusion.sum(1) > 0
    return float((np.diag(confusion)[present] / np.maximum(union[present], 1)).mean())


def labelled_part(u: Map, scene: ValidationScene) -> Map:
    """A map with 0 where the scene has no label: of a frame whose road alone is labelled, its road."""
    truth = cv2.resize(scene.truth, (u.shape[1], u.shape[0]), interpolation=cv2.INTER_NEAREST)
    return np.where(truth == IGNORE, np.float32(0), u)


def alarm_level(maps: Sequence[Map], per_frame: float = ALARMS_PER_FRAME) -> float:
    """The lowest threshold with at most so many alarms (connected regions) a frame, on maps of empty roads."""
    counts = np.sum([count_alarms(u, LEVELS) for u in maps], axis=0)
    return lowest_level(counts, LEVELS, per_frame * len(maps))


def recall(scene: ValidationScene, u: Map, level: float) -> tuple[int, int]:
    """Objects with a pixel at or above a threshold, and all objects of a scene."""
    full = upsample(u, *scene.objects.shape)
    there = np.unique(scene.objects[scene.objects > 0])
    return len(np.intersect1d(there, scene.objects[full >= level])), len(there)


def add_scene(metrics: PixelMetrics, u: Map, scene: ValidationScene) -> None:
    """Count every second row and column of a scene."""
    metrics.add(upsample(u, *scene.truth.shape)[1::2, 1::2], scene.truth[1::2, 1::2])


def scene_figures(maps: Sequence[Map], scenes: Sequence[ValidationScene]) -> dict[str, float]:
    """Figures of the generated scenes, by the size of their objects, from the uncertainty of each scene.

    `ap/SIZE` and `fpr95/SIZE` over labelled pixels; with frames without objects `alarms/level`, the threshold with 0.1
    false alarms a frame on what is labelled, and `recall/SIZE` at it, the share of objects that are touched.
    """
    figures: dict[str, float] = {}
    normal = [labelled_part(u, scene) for u, scene in zip(maps, scenes, strict=True) if not scene.size]
    if normal:
        figures["alarms/level"] = alarm_level(normal)
    for size in SIZES:
        pairs = [(u, scene) for u, scene in zip(maps, scenes, strict=True) if scene.size == size]
        if not pairs:
            continue
        metrics = PixelMetrics()
        for u, scene in pairs:
            add_scene(metrics, u, scene)
        result = metrics.result()
        figures[f"ap/{size}"], figures[f"fpr95/{size}"] = result.ap, result.fpr95
        if normal:
            counts = [recall(scene, u, figures["alarms/level"]) for u, scene in pairs]
            found, there = (sum(column) for column in zip(*counts, strict=True))
            figures[f"recall/{size}"] = found / max(1, there)
    return figures


def validate(
    learner: Learner, data: RunData, settings: Validation, scenes: Sequence[ValidationScene]
) -> dict[str, float]:
    """`miou/SET`, `scene_figures`, and `choice`: the mean of mean mIoU and each size's AP and recall."""
    first = len(data.table.lookup) - len(data.validation)
    results: dict[str, float] = {}
    for index, (spec, frames) in enumerate(zip(settings.sets, data.validation, strict=True), start=first):
        # A set of one label has no mIoU worth the name.
        if len(data.table.rows_of_set(index)) > 1:
            results[f"miou/{spec.name}"] = mean_iou(learner, frames, data.table, index, settings.pixels)
    # Eq. 2 as the exported bundle publishes it, at the map's own resolution.
    prompts, graph = pack(learner.prompts(), LIMITS, learner.temperature), learner.graph()
    raw = [run_torch(graph, resized(scene.image, settings.pixels)[None], prompts)[0] for scene in scenes]
    figures = scene_figures([np.clip(1 + u, 0, 1) for u in raw], scenes)
    choice = [float(np.mean(list(results.values())))] if results else []
    choice += [value for name, value in figures.items() if name.startswith(("ap/", "recall/"))]
    return results | figures | {"choice": float(np.mean(choice)) if choice else 0.0}


class ScoreFigures(NamedTuple):
    """What a score reaches on scenes: the mean of the AP of each size, and a threshold (0 to 1) with its pixel F1."""

    ap: float
    threshold: float
    f1: float


def compare_scores(bundle: ModelBundle, scenes: Sequence[ValidationScene]) -> dict[str, ScoreFigures]:
    """The figures of each score that the bundle can give.

    The threshold is that of the largest pixel F1, or higher where that gives too many alarms on frames without objects.
    """
    detector, compared = Detector.open(bundle.path), {}
    for scoring in bundle.card.usable_scorings:
        prompts, metrics = detector.prompts(scoring=scoring), PixelMetrics()
        maps = [detector.detect(scene.image, prompts, "mask") for scene in scenes]
        for u, scene in zip(maps, scenes, strict=True):
            if scene.size:
                add_scene(metrics, u, scene)
        figures, result = scene_figures(maps, scenes), metrics.result()
        level = max(result.best_f1_threshold, figures.get("alarms/level", 0.0))
        ap = float(np.mean([value for name, value in figures.items() if name.startswith("ap/")]))
        compared[scoring] = ScoreFigures(ap, float(np.clip(round(level, 3), 0.0, 1.0)), result.best_f1)
    detector.close()
    return compared
