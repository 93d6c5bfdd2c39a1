"""Putting things into scenes: named cut-outs and shapes of unknown texture, lit like their surroundings."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vl4ad_ros.training.augment import Random, UInt8, blob, log_uniform
from vl4ad_ros.training.cutouts import Cutouts

NO_NAME = -1
Int16 = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Scene:
    """A sample under construction.

    Attributes:
        image: RGB [h,w,3].
        rows: [h,w], rows of the label table.
        names: [h,w], index of the object's name, -1 elsewhere.
    """

    image: UInt8
    rows: UInt8
    names: Int16


@dataclass(frozen=True)
class ObjectPaster:
    """Puts objects into scenes.

    Attributes:
        cutouts: all cut-outs.
        allowed: indices of names that may be used.
        void: row of things outside the vocabulary.
        ground: rows that objects stand on.
        size: smallest and largest height, in shares of the scene's height.
        most: largest number in a scene.
    """

    cutouts: Cutouts
    allowed: npt.NDArray[np.int64]
    void: int
    ground: tuple[int, ...]
    size: tuple[float, float]
    most: int

    def paste(self, scene: Scene, random: Random) -> Scene:
        """The scene with one to `most` objects."""
        image, rows, names = scene.image.copy(), scene.rows.copy(), scene.names.copy()
        for _ in range(int(random.integers(1, self.most + 1))):
            picture, name = self._choose(random)
            picture = self._shape(picture, image.shape[0], random)
            self._place(image, rows, names, picture, name, random)
        return Scene(image, rows, names)

    def _choose(self, random: Random) -> tuple[UInt8, int]:
        """RGBA of a cut-out with its name, or of a shape with a picture's texture and no name."""
        name = int(random.choice(self.allowed))
        picture = self.cutouts.pictures[int(random.choice(self.cutouts.of_class(name)))]
        if random.random() < 0.2:
            height, width = picture.shape[:2]
            mask = blob(random, (height, width))
            texture = cv2.GaussianBlur(picture[..., :3], (0, 0), 1.0) if random.random() < 0.3 else picture[..., :3]
            return np.dstack([texture, mask]).astype(np.uint8), NO_NAME
        return picture, name

    def _shape(self, picture: UInt8, scene_height: int, random: Random) -> UInt8:
        """Zoomed, mirrored, turned."""
        height, width = picture.shape[:2]
        target = log_uniform(random, *self.size) * scene_height
        # The longer side decides, so that flat things do not become as wide as the road.
        factor = target / max(height, width * 0.75)
        out_width, out_height = max(4, round(width * factor)), max(4, round(height * factor))
        way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        picture = cv2.resize(picture, (out_width, out_height), interpolation=way).astype(np.uint8)
        if random.random() < 0.5:
            picture = np.ascontiguousarray(picture[:, ::-1])
        if random.random() < 0.3:
            matrix = cv2.getRotationMatrix2D((out_width / 2, out_height / 2), random.uniform(-25, 25), 0.9)
            picture = cv2.warpAffine(picture, matrix, (out_width, out_height)).astype(np.uint8)
        return picture

    def _foot(self, rows: UInt8, random: Random) -> tuple[int, int]:
        """Where an object's lower middle goes: mostly on the ground."""
        height, width = rows.shape
        if random.random() < 0.75:
            ys, xs = np.nonzero(np.isin(rows[::8, ::8], self.ground))
            if len(ys):
                pick = int(random.integers(len(ys)))
                return int(ys[pick] * 8), int(xs[pick] * 8)
        return int(random.uniform(0.3, 1.1) * height), int(random.uniform(0, 1) * width)

    def _place(self, image: UInt8, rows: UInt8, names: Int16, picture: UInt8, name: int, random: Random) -> None:
        height, width = rows.shape
        object_height, object_width = picture.shape[:2]
        foot_y, foot_x = self._foot(rows, random)
        top, left = foot_y - object_height, foot_x - object_width // 2
        y0, y1, x0, x1 = max(0, top), min(height, foot_y), max(0, left), min(width, left + object_width)
        if y1 - y0 < 3 or x1 - x0 < 3:
            return
        part = picture[y0 - top : y1 - top, x0 - left : x1 - left]
        if random.random() < 0.5:
            _contact_shadow(image, foot_y, foot_x, object_width, random)
        region = image[y0:y1, x0:x1]
        colours = _light_like(part, region, random)
        if random.random() < 0.4:
            colours = cv2.GaussianBlur(colours, (0, 0), random.uniform(0.4, 1.2)).astype(np.uint8)
        alpha = part[..., 3].astype(np.float32) / np.float32(255)
        if random.random() < 0.6:
            alpha = cv2.GaussianBlur(alpha, (0, 0), random.uniform(0.4, 1.2)).astype(np.float32)
        mixed = region + alpha[..., None] * (colours.astype(np.float32) - region)
        image[y0:y1, x0:x1] = mixed.astype(np.uint8)
        inside = alpha > 0.5
        rows[y0:y1, x0:x1][inside] = self.void
        names[y0:y1, x0:x1][inside] = name


def _contact_shadow(image: UInt8, foot_y: int, foot_x: int, object_width: int, random: Random) -> None:
    """Darken the ground under an object's foot."""
    height, width = image.shape[:2]
    half = int(object_width * random.uniform(0.4, 0.8))
    flat = max(2, int(object_width * random.uniform(0.05, 0.2)))
    y0, y1 = max(0, foot_y - 2 * flat), min(height, foot_y + 2 * flat)
    x0, x1 = max(0, foot_x - half), min(width, foot_x + half)
    if y1 <= y0 or x1 <= x0:
        return
    ys, xs = np.mgrid[y0:y1, x0:x1]
    distance = ((ys - foot_y) / (1.6 * flat)) ** 2 + ((xs - foot_x) / max(1, half)) ** 2
    depth = random.uniform(0.2, 0.65) * np.clip(1 - distance, 0, 1)
    image[y0:y1, x0:x1] = (image[y0:y1, x0:x1] * (1 - depth[..., None])).astype(np.uint8)


def _light_like(part: UInt8, region: UInt8, random: Random) -> UInt8:
    """Move an object's brightness, contrast and tint towards its surroundings', and light it from one side."""
    colours = part[..., :3].astype(np.float32)
    solid = part[..., 3] > 128
    if not solid.any():
        return part[..., :3]
    mean, spread = colours[solid].mean(0), colours[solid].std() + 1.0
    target_mean, target_spread = region.reshape(-1, 3).mean(0), region.std() + 1.0
    pull = random.uniform(0.0, 0.7)
    gain = 1 + pull * (np.clip(target_spread / spread, 0.6, 1.5) - 1)
    colours = (colours - mean) * gain + mean + pull * (target_mean - mean)
    if random.random() < 0.4:
        slope = random.uniform(-0.35, 0.35)
        across = np.linspace(1 - slope, 1 + slope, colours.shape[1], dtype=np.float32)
        colours = colours * across[None, :, None]
    return np.asarray(np.clip(colours, 0, 255), dtype=np.uint8)
