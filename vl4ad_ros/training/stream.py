"""The endless stream of training samples: sample number i is the same whenever and wherever it is made."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vl4ad_ros.training.augment import Random, UInt8, blob, crop_window, photometry, take_style
from vl4ad_ros.training.config import TrainConfig
from vl4ad_ros.training.frames import Frames
from vl4ad_ros.training.scenes import ObjectPaster, Scene

ROW_STRIDE, NAME_STRIDE = 4, 8
"""Pixels of the sample per element of the row map and of the name map."""

SMALLEST_WEIGHT, LARGEST_WEIGHT = 0.3, 16.0
"""Weight of a pixel of a large object at least, and of a small object at most, where the scene's own weigh 1."""

Sample = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class SampleStream(Dataset[Sample]):
    """Samples by number.

    As tensors a sample is the picture uint8 [3,h,w], rows uint8 [h/4,w/4], their weights float32 [h/4,w/4] and names
    int16 [h/8,w/8].
    """

    config: TrainConfig
    sets: tuple[Frames, ...]  # frames of each data set, in the order of the configuration
    paster: ObjectPaster | None  # puts objects in; None without objects

    def __getitem__(self, index: int) -> Sample:
        cv2.setNumThreads(0)
        scene = self.scene(index)
        weights = object_weights(_middle(scene.objects, ROW_STRIDE), self.config.losses.object_pixels)
        image, rows = np.ascontiguousarray(scene.image.transpose(2, 0, 1)), _middle(scene.rows, ROW_STRIDE)
        names = _middle(scene.names, NAME_STRIDE)
        return torch.from_numpy(image), torch.from_numpy(rows), torch.from_numpy(weights), torch.from_numpy(names)

    def scene(self, index: int) -> Scene:
        """Sample number `index` at its full size."""
        random = np.random.default_rng([self.config.seed, index])
        augment, objects = self.config.augment, self.config.objects
        image, rows = self._window(random)
        if random.random() < augment.mix:
            other, other_rows = self._window(random)
            height, width = rows.shape
            box = (int(height * random.uniform(0.2, 0.8)), int(width * random.uniform(0.2, 0.8)))
            y, x = int(random.integers(height - box[0] + 1)), int(random.integers(width - box[1] + 1))
            inside = np.zeros((height, width), bool)
            inside[y : y + box[0], x : x + box[1]] = blob(random, box) > 0
            # From another place: what is pasted must not always be where it belongs.
            shift = int(random.integers(width))
            image = np.where(inside[..., None], np.roll(other, shift, 1), image)
            rows = np.where(inside, np.roll(other_rows, shift, 1), rows)
        if random.random() < augment.style:
            frames = self.sets[int(random.integers(len(self.sets)))]
            image = take_style(image, frames.images[int(random.integers(len(frames)))], random.uniform(0.3, 1.0))
        scene = Scene.of(image, rows)
        if self.paster is not None and objects is not None and random.random() < objects.probability:
            self.paster.paste(scene, random)
        return replace(scene, image=photometry(scene.image, augment, random))

    def _window(self, random: Random) -> tuple[UInt8, UInt8]:
        weights = np.array([data.weight for data in self.config.datasets])
        which = int(random.choice(len(weights), p=weights / weights.sum()))
        frames, scale = self.sets[which], self.config.datasets[which].scale
        pick = int(random.integers(len(frames)))
        return crop_window(frames.images[pick], frames.rows[pick], self.config.crop, scale, self.config.augment, random)


def _middle(values: np.ndarray, stride: int) -> np.ndarray:
    """The middle of each `stride` x `stride` cell."""
    return np.ascontiguousarray(values[stride // 2 :: stride, stride // 2 :: stride])


def object_weights(objects: np.ndarray, pixels: float) -> np.ndarray:
    """Weights with which an object counts as `pixels` pixels, within limits; 1 elsewhere, and everywhere at 0.

    Objects are uint8 [h,w], the number of the object, 0: none; weights float32 [h,w].
    """
    counts = np.bincount(objects.reshape(-1), minlength=256).astype(np.float32)
    weight = np.clip(pixels / np.maximum(counts, 1), SMALLEST_WEIGHT, LARGEST_WEIGHT) if pixels else np.ones(256)
    weight[0] = 1
    return np.asarray(weight[objects], dtype=np.float32)
