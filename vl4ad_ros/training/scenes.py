"""Putting things into scenes: objects with and without a name, and known things, all lit like their surroundings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from vl4ad_ros.training.augment import Random, UInt8, blob, log_uniform, soft_polygon
from vl4ad_ros.training.config import Objects
from vl4ad_ros.training.cutouts import Cutouts

NO_NAME = -1
Int16 = npt.NDArray[np.int16]

KNOWN_METRES = (1.0, 2.5)
"""Heights of known things (cars, people, signs) on the ground plane."""

ENLARGED_FROM, MAX_ZOOM = 128, 3.0
"""Height in pixels above which a cut-out may be enlarged, and how far."""

NEAR_SHARE = 0.4
"""Share of the things beside the ground plane whose height is even over the upper three quarters of the range."""

TRIES = 6
"""Draws of a place, or of a cut-out that is large enough, before another way is taken."""


@dataclass(frozen=True)
class Scene:
    """A sample under construction."""

    image: UInt8  # RGB [h,w,3]
    rows: UInt8  # [h,w], rows of the label table
    names: Int16  # [h,w], index of the object's name, -1 elsewhere
    objects: UInt8  # [h,w], number of the thing that was put in, from 1; 0 elsewhere

    @staticmethod
    def of(image: UInt8, rows: UInt8) -> Scene:
        """A scene without objects; the maps are its own."""
        return Scene(image.copy(), rows.copy(), np.full(rows.shape, NO_NAME, np.int16), np.zeros(rows.shape, np.uint8))


class Spot(NamedTuple):
    """Where a thing stands (its lower middle) and how high it is, pixels."""

    y: int
    x: int
    height: float


def horizon_row(rows: UInt8, ground: tuple[int, ...]) -> int | None:
    """The first row with ground in it, taken for the horizon; None where the ground goes up to the top."""
    share = np.isin(rows[:, ::4], ground).mean(1)
    first = np.flatnonzero(share > 0.01)
    return int(first[0]) if len(first) and first[0] > 2 else None


@dataclass(frozen=True)
class ObjectPaster:
    """Puts things into scenes."""

    settings: Objects  # how many, how large, where
    cutouts: Cutouts  # named cut-outs
    allowed: npt.NDArray[np.int64]  # indices of the names that may be used
    void: int  # row of things outside the vocabulary
    ground: tuple[int, ...] = ()  # rows that things stand on
    textures: Sequence[UInt8] = ()  # RGB surfaces of shapes without a name; empty: those of the cut-outs
    known: Sequence[tuple[UInt8, int]] = ()  # RGBA of things of the classes, with the row of their label

    def paste(self, scene: Scene, random: Random) -> Scene:
        """Draw one to `most` things into a scene; returns it."""
        horizon = horizon_row(scene.rows, self.ground)
        for number in range(1, int(random.integers(1, self.settings.max_objects + 1)) + 1):
            kind = random.random()
            known = bool(self.known) and kind < self.settings.known
            spot = self._spot(scene.rows, horizon, KNOWN_METRES if known else self.settings.metres, random)
            name, row = NO_NAME, self.void
            if known:
                picture, row = self.known[int(random.integers(len(self.known)))]
            elif kind > 1 - self.settings.nameless:
                picture = self._shape(spot.height, random)
            else:
                picture, name = self._cutout(spot.height, random)
            _place(scene, _sized(picture, spot.height, random), spot, (row, name, number), random)
        return scene

    def _spot(self, rows: UInt8, horizon: int | None, metres: tuple[float, float], random: Random) -> Spot:
        """A place with a height: by the ground plane, or any."""
        height, width = rows.shape
        low, high = self.settings.size[0], min(self.settings.size[1], height)
        if horizon is not None and random.random() < self.settings.on_plane:
            for _ in range(TRIES):
                # As many far as near: rows even on a logarithmic scale below the horizon.
                below = log_uniform(random, 4, max(5, height - 1 - horizon))
                y = int(horizon + below)
                columns = np.flatnonzero(np.isin(rows[min(y, height - 1)], self.ground))
                # A flat road and a level camera: what is as high as the camera reaches up to the horizon.
                tall = log_uniform(random, *metres) / self.settings.camera_height * below
                if len(columns) and low <= tall <= high:
                    return Spot(y, int(random.choice(columns)), tall)
        tall = log_uniform(random, low, high)
        if random.random() < NEAR_SHARE:
            tall = random.uniform(low + (high - low) / 4, high)
        if random.random() < 0.75:
            ys, xs = np.nonzero(np.isin(rows[::8, ::8], self.ground))
            if len(ys):
                pick = int(random.integers(len(ys)))
                return Spot(int(ys[pick] * 8), int(xs[pick] * 8), tall)
        return Spot(int(random.uniform(0.3, 1.1) * height), int(random.uniform(0, 1) * width), tall)

    def _cutout(self, height: float, random: Random) -> tuple[UInt8, int]:
        """RGBA of a named cut-out, if there is one large enough among a few, and its name."""
        for _ in range(TRIES):
            name = int(random.choice(self.allowed))
            picture = self.cutouts.pictures[int(random.choice(self.cutouts.of_class(name)))]
            if picture.shape[0] >= height:
                break
        return picture, name

    def _shape(self, height: float, random: Random) -> UInt8:
        """RGBA of a shape with a texture, at its own size."""
        tall = max(4, round(height))
        size = (tall, max(4, round(tall * log_uniform(random, 0.4, 2.5))))
        if self.textures:
            texture = self.textures[int(random.integers(len(self.textures)))]
        else:
            texture = self._cutout(height, random)[0][..., :3]
        zoom = log_uniform(random, 0.1, 1.0)
        texture = cv2.resize(texture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA).astype(np.uint8)
        down, right = max(0, size[0] - texture.shape[0]), max(0, size[1] - texture.shape[1])
        surface = cv2.copyMakeBorder(texture, 0, down, 0, right, cv2.BORDER_REFLECT)[: size[0], : size[1]]
        if random.random() < 0.3:
            surface = cv2.GaussianBlur(surface, (0, 0), random.uniform(0.5, 4.0))
        mask = np.full(size, 255, np.uint8) if random.random() < 0.25 else blob(random, size, random.uniform(0.1, 0.5))
        return np.dstack([surface, mask]).astype(np.uint8)


def _sized(picture: UInt8, height: float, random: Random) -> UInt8:
    """A thing at its height or smaller; mirrored, turned."""
    # Small ones keep the camera's sharpness. Named pictures are 120 pixels high: without enlarging, large things are
    # never seen and are forgotten. The longer side decides, so that flat things do not become as wide as the road.
    largest = MAX_ZOOM if height > ENLARGED_FROM else 1.0
    factor = min(largest, height / max(picture.shape[0], picture.shape[1] * 0.75))
    out_width, out_height = max(4, round(picture.shape[1] * factor)), max(4, round(picture.shape[0] * factor))
    way = cv2.INTER_AREA if factor <= 1 else cv2.INTER_CUBIC
    picture = cv2.resize(picture, (out_width, out_height), interpolation=way).astype(np.uint8)
    if random.random() < 0.5:
        picture = np.ascontiguousarray(picture[:, ::-1])
    if random.random() < 0.3:
        matrix = cv2.getRotationMatrix2D((out_width / 2, out_height / 2), random.uniform(-25, 25), 0.9)
        picture = cv2.warpAffine(picture, matrix, (out_width, out_height)).astype(np.uint8)
    return picture


def _place(scene: Scene, picture: UInt8, spot: Spot, label: tuple[int, int, int], random: Random) -> None:
    """Draw a thing into a scene; `label` is its row, its name and its number."""
    height, width = scene.rows.shape
    object_height, object_width = picture.shape[:2]
    top, left = spot.y - object_height, spot.x - object_width // 2
    y0, y1, x0, x1 = max(0, top), min(height, spot.y), max(0, left), min(width, left + object_width)
    if y1 - y0 < 3 or x1 - x0 < 3:
        return
    part = picture[y0 - top : y1 - top, x0 - left : x1 - left]
    if random.random() < 0.5:
        _contact_shadow(scene.image, spot.y, spot.x, object_width, random)
    region = scene.image[y0:y1, x0:x1]
    colours = _light_like(part, region, random)
    # What is a few pixels high must not be washed away.
    strongest = 1.2 * min(1.0, object_height / 24)
    if random.random() < 0.5:
        colours = cv2.GaussianBlur(colours, (0, 0), random.uniform(0.25, 1.0) * strongest).astype(np.uint8)
    alpha = part[..., 3].astype(np.float32) / np.float32(255)
    edge = random.random()
    if edge < 0.6:
        alpha = cv2.GaussianBlur(alpha, (0, 0), random.uniform(0.25, 1.0) * strongest).astype(np.float32)
    elif edge < 0.75:
        alpha = (alpha > 0.5).astype(np.float32)
    mixed = region + alpha[..., None] * (colours.astype(np.float32) - region)
    scene.image[y0:y1, x0:x1] = mixed.astype(np.uint8)
    inside = alpha > 0.5 * min(1.0, float(alpha.max()))
    row, name, number = label
    scene.rows[y0:y1, x0:x1][inside] = row
    scene.names[y0:y1, x0:x1][inside] = name
    scene.objects[y0:y1, x0:x1][inside] = number


def _contact_shadow(image: UInt8, foot_y: int, foot_x: int, object_width: int, random: Random) -> None:
    """Darken the ground under an object's foot."""
    half, flat = object_width * random.uniform(0.4, 0.8), max(2, object_width * random.uniform(0.05, 0.2))
    outline = np.array(cv2.ellipse2Poly((foot_x, foot_y), (int(half), int(flat)), 0, 0, 360, 15))
    shadow = soft_polygon(image.shape[:2], outline, flat / 2) * random.uniform(0.2, 0.65)
    image[:] = (image * (1 - shadow[..., None])).astype(np.uint8)


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
