"""Validation: mIoU on the validation splits, and AP on generated anomaly scenes made from them with unseen objects."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from vl4ad_ros.evaluation.pixel_metrics import PixelMetrics
from vl4ad_ros.runtime.frames import upsample
from vl4ad_ros.training.augment import UInt8
from vl4ad_ros.training.config import DataSet
from vl4ad_ros.training.data import RunData
from vl4ad_ros.training.frames import Frames
from vl4ad_ros.training.label_tables import IGNORE, LabelTable
from vl4ad_ros.training.objective import Learner
from vl4ad_ros.training.scenes import NO_NAME, ObjectPaster, Scene

SUPERCLASSES = (
    ("road", "sidewalk", "terrain"),
    ("building", "wall", "fence", "vegetation"),
    ("pole", "traffic light", "traffic sign"),
    ("sky",),
    ("person", "rider"),
    ("car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
"""Classes merged for the generated scenes' score, where the vocabulary has them; the rest stay alone."""

SceneWithTruth = tuple[UInt8, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]
"""Picture, is-anomaly and is-labelled."""


def working_size(height: int, width: int, pixels: int) -> tuple[int, int]:
    """Rows and columns, multiples of 32, of about `pixels`, with the frame's aspect."""
    factor = (pixels / (height * width)) ** 0.5
    return max(64, round(height * factor / 32) * 32), max(64, round(width * factor / 32) * 32)


@torch.no_grad()
def logits_of(learner: Learner, image: UInt8, pixels: int, class_concepts: Tensor) -> Tensor:
    """Logits [K+1,h,w] of one picture at the working size."""
    height, width = working_size(image.shape[0], image.shape[1], pixels)
    way = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    resized = cv2.resize(image, (width, height), interpolation=way)
    tensor = torch.from_numpy(resized).permute(2, 0, 1)[None].float()
    device = learner.concepts.device
    tensor = tensor.to(device).contiguous(memory_format=torch.channels_last)
    return learner.dense_logits(tensor, class_concepts.to(device))[0].float().cpu()


def mean_iou(
    learner: Learner, frames: Frames, table: LabelTable, which: int, pixels: int, class_concepts: Tensor
) -> float:
    """Return the mIoU over the set's own labels; a label's probability is the sum over its classes."""
    rows = [row for _, row in table.labels[which]]
    members = torch.from_numpy(table.rows[rows]).float()
    confusion = np.zeros((len(rows), len(rows)), np.int64)
    position = np.full(256, IGNORE, np.uint8)
    position[rows] = np.arange(len(rows), dtype=np.uint8)
    for image, target in zip(frames.images, frames.rows, strict=True):
        logits = logits_of(learner, image, pixels, class_concepts)[None, :-1]
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


def anomaly_map(logits: Tensor, classes: tuple[str, ...]) -> Tensor:
    """Eq. 2 with class merging and void: [K+1,h,w] -> u [h,w]."""
    position = {name: index for index, name in enumerate(classes)}
    merged = [[position[name] for name in group if name in position] for group in SUPERCLASSES]
    used = {index for group in merged for index in group}
    groups = [group for group in merged if group] + [[index] for index in range(len(classes)) if index not in used]
    columns = torch.stack([logits[group].amax(0) for group in groups] + [logits[-1]])
    return -columns.softmax(0)[:-1].amax(0)


def generate_scenes(data: RunData, sets: tuple[DataSet, ...], count: int, seed: int) -> list[SceneWithTruth]:
    """Scenes from validation frames with held-out objects; the same for a seed. None without objects."""
    if data.test_paster is None:
        return []
    source = data.test_paster
    paster = ObjectPaster(source.cutouts, source.allowed, source.void, source.ground, (0.06, 0.6), 2)
    scenes = []
    for index in range(count):
        frames = data.validation[index % len(sets)]
        random = np.random.default_rng([seed, 2, index])
        pick = int(random.integers(len(frames)))
        rows = frames.rows[pick]
        scene = paster.paste(Scene(frames.images[pick], rows, np.full(rows.shape, NO_NAME, np.int16)), random)
        scenes.append((scene.image, scene.rows == data.table.void, scene.rows != IGNORE))
    return scenes


def truth_map(scene: SceneWithTruth) -> UInt8:
    """A scene's truth as an anomaly label map: 1 anomaly, 0 none, 255 left out."""
    return np.where(scene[2], scene[1].astype(np.uint8), np.uint8(255)).astype(np.uint8)


def validate(
    learner: Learner, data: RunData, sets: tuple[DataSet, ...], pixels: int, scenes: list[SceneWithTruth]
) -> dict[str, float]:
    """All validation figures of a learner in evaluation mode.

    Returns:
        `miou/<set>`; with scenes `generated/ap` and `generated/fpr95`; `choice`, the mean of mIoU and AP.
    """
    class_concepts = data.all_concepts()
    first = len(data.table.lookup) - len(sets)
    results: dict[str, float] = {}
    for index, (spec, frames) in enumerate(zip(sets, data.validation, strict=True)):
        # A set of one label has no mIoU worth the name.
        if len(data.table.labels[first + index]) > 1:
            results[f"miou/{spec.name}"] = mean_iou(learner, frames, data.table, first + index, pixels, class_concepts)
    choice = [float(np.mean(list(results.values())))] if results else []
    if scenes:
        metrics = PixelMetrics()
        for scene in scenes:
            score = anomaly_map(logits_of(learner, scene[0], pixels, class_concepts), data.table.classes).numpy()
            truth = truth_map(scene)[1::2, 1::2]
            metrics.add(np.clip(1 + upsample(score, *truth.shape), 0, 1), truth)
        ranked = metrics.result()
        results["generated/ap"], results["generated/fpr95"] = ranked.ap, ranked.fpr95
        choice.append(ranked.ap)
    results["choice"] = float(np.mean(choice)) if choice else 0.0
    return results
