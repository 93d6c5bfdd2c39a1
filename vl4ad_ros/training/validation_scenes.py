"""Scenes that choose a checkpoint: unseen roads, with held-out objects of one class of size, and without any."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vl4ad_ros.evaluation.objects import LARGE_HEIGHT, REFERENCE_WIDTH, SMALL_HEIGHT
from vl4ad_ros.training.augment import UInt8
from vl4ad_ros.training.config import Validation
from vl4ad_ros.training.data import RunData
from vl4ad_ros.training.label_tables import IGNORE
from vl4ad_ros.training.scenes import Scene

SIZES = {"small": (6, SMALL_HEIGHT), "medium": (SMALL_HEIGHT, LARGE_HEIGHT), "large": (LARGE_HEIGHT, 600)}
"""Heights of objects in pixels at a width of `REFERENCE_WIDTH`."""

MAX_OBJECTS = 3


@dataclass(frozen=True)
class ValidationScene:
    """One scene with its truth."""

    size: str  # one of `SIZES`, or empty: a frame as it was taken, on which every alarm is a false one
    image: UInt8  # RGB [h,w,3]
    truth: UInt8  # uint8 [h,w], 1 anomaly, 0 none, 255 left out
    objects: UInt8  # uint8 [h,w], number of the object, 0 elsewhere


def generate_scenes(data: RunData, settings: Validation, seed: int) -> list[ValidationScene]:
    """Scenes with held-out objects, evenly of each size, and without; the same for a seed."""

    def finished(size: str, scene: Scene) -> ValidationScene:
        truth = np.where(scene.rows == IGNORE, IGNORE, scene.rows == data.table.void).astype(np.uint8)
        return ValidationScene(size, scene.image, truth, scene.objects)

    scenes = []
    for index in range(settings.generated if data.test_paster is not None else 0):
        assert data.test_paster is not None
        frames = data.validation[index % len(data.validation)]
        random = np.random.default_rng([seed, 2, index])
        pick = int(random.integers(len(frames)))
        size = tuple(SIZES)[index // len(data.validation) % len(SIZES)]
        unit = frames.rows[pick].shape[1] / REFERENCE_WIDTH
        heights = tuple(unit * bound for bound in SIZES[size])
        changes = {"size": heights, "max_objects": MAX_OBJECTS, "known": 0, "nameless": 0}
        paster = replace(data.test_paster, settings=data.test_paster.settings.model_copy(update=changes))
        scenes.append(finished(size, paster.paste(Scene.of(frames.images[pick], frames.rows[pick]), random)))
    frames = data.validation[0]
    for pick in np.unique(np.linspace(0, len(frames) - 1, min(settings.normal, len(frames))).round().astype(int)):
        scenes.append(finished("", Scene.of(frames.images[pick], frames.rows[pick])))
    return scenes
