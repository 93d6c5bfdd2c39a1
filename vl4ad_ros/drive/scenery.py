"""Trees, bushes, grass, hills and buildings."""

from __future__ import annotations

import cv2
import numpy as np

from vl4ad_ros.drive.paint import (
    Float,
    Points,
    Random,
    Shape,
    Texture,
    blend,
    clouds,
    gradient,
    mask,
    palette,
    ramp,
    relief,
)  # fmt: skip

_GREENS = (
    ((0.05, 0.09, 0.03), (0.15, 0.23, 0.07), (0.29, 0.37, 0.13), (0.44, 0.50, 0.22)),
    ((0.04, 0.08, 0.04), (0.11, 0.19, 0.08), (0.22, 0.31, 0.13), (0.36, 0.44, 0.21)),
    ((0.07, 0.08, 0.03), (0.20, 0.22, 0.08), (0.36, 0.36, 0.14), (0.52, 0.48, 0.22)),
)
_CONIFER = ((0.02, 0.05, 0.03), (0.07, 0.13, 0.07), (0.15, 0.23, 0.12), (0.25, 0.33, 0.19))
_BARK = ((0.09, 0.07, 0.05), (0.24, 0.19, 0.14), (0.40, 0.33, 0.25))
_WALLS = (
    (0.66, 0.60, 0.50), (0.72, 0.70, 0.66), (0.50, 0.30, 0.23), (0.58, 0.50, 0.42), (0.44, 0.43, 0.42),
    (0.63, 0.47, 0.36),
)  # fmt: skip
_CURTAIN, _DOOR = (0.55, 0.53, 0.49), (0.22, 0.15, 0.11)


def _foliage(random: Random, shape: tuple[int, int], blobs: Float, cells: int) -> tuple[Float, Float]:
    """Return colours and coverage of leaves around blobs (x, y, radius in shares of the height), lit from above."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32) / shape[0]
    mass = np.zeros(shape, dtype=np.float32)
    for x, y, radius in blobs:
        distance = ((columns - x) ** 2 + (1.1 * (rows - y)) ** 2) / radius**2
        mass = np.maximum(mass, np.asarray(1.11 - 0.61 * distance, dtype=np.float32))
    clumps, leaves = clouds(random, shape, cells, 4, 0.55), clouds(random, shape, shape[0] // 7, 3, 0.7)
    density = np.clip(mass, 0, 1) + 0.55 * (clumps - 0.5) + 0.45 * (leaves - 0.5)
    alpha = ramp(density, 0.40, 0.52) * ramp(mass, 0.05, 0.25)
    # Each clump is lit on its upper left: the slope of the coarse noise towards the light.
    smooth = cv2.GaussianBlur(clumps, (0, 0), shape[0] / 90)
    slope = np.roll(smooth, shape[0] // 28, axis=0) - np.roll(smooth, -shape[0] // 28, axis=0)
    height = np.linspace(0.16, -0.16, shape[0], dtype=np.float32)[:, None]
    tone = np.clip(0.5 - 1.25 * slope + 0.5 * (leaves - 0.5) + height, 0, 1)
    return palette(tone, _GREENS[int(random.integers(len(_GREENS)))]), alpha


def _limb(points: Points, *widths: float) -> Shape:
    return {"limb": points, "widths": widths}


def _wooded(random: Random, wood: list[Shape], leaves: Float, cover: Float) -> Texture:
    """Return leaves over trunk and branches."""
    stem = mask(cover.shape[:2], wood)
    bark = palette(clouds(random, cover.shape[:2], 24, 4), _BARK) * relief(stem, 0.02)[..., None]
    return Texture(blend(bark, leaves, cover), np.maximum(stem, cover))


def tree(random: Random) -> Texture:
    """Return a broad-leaved tree; the picture is as wide as it is high."""
    size, lean = (320, 320), float(random.uniform(-0.06, 0.06))
    wood = [_limb([(0.5, 1.0), (0.5 + lean / 2, 0.72), (0.5 + lean, 0.45)], 0.075, 0.05, 0.03)]
    for side, start in ((-1, 0.62), (-1, 0.5), (1, 0.62), (1, 0.5)):
        reach = float(random.uniform(0.12, 0.26))
        wood.append(_limb([(0.5 + lean / 2, start + 0.08), (0.5 + side * reach, start - 0.16)], 0.03, 0.012))
    angle, distance, radius = random.uniform([[0.0], [0.04], [0.13]], [[6.28], [0.29], [0.2]], (3, 16))
    x, y = 0.5 + lean + 1.15 * distance * np.cos(angle), 0.37 + 0.9 * distance * np.sin(angle)
    leaves, cover = _foliage(random, size, np.stack([x, y, radius], axis=1).astype(np.float32), 6)
    return _wooded(random, wood, leaves, cover)


def conifer(random: Random) -> Texture:
    """Return a spruce; the picture is half as wide as it is high."""
    rows, columns = np.mgrid[0:320, 0:160].astype(np.float32) / np.array([320, 160], np.float32)[:, None, None]
    tiers = 0.5 + 0.5 * np.cos(rows * np.pi * 2 * random.uniform(8, 12))
    reach = 0.46 * np.clip(rows - 0.02, 0, 1) * (0.72 + 0.28 * tiers)
    mass = np.clip(1.0 - 0.55 * np.abs(columns - 0.5) / np.maximum(reach, 0.01), 0, 1) * ramp(1 - rows, 0.04, 0.10)
    needles = clouds(random, (320, 160), 53, 3, 0.8)
    alpha = ramp(mass + 0.5 * (needles - 0.5), 0.40, 0.55)
    tone = np.clip(0.6 + 0.5 * (needles - 0.5) - 0.35 * (tiers - 0.5) - 0.5 * columns, 0, 1)
    return _wooded(random, [_limb([(0.5, 1.0), (0.5, 0.1)], 0.09, 0.02)], palette(tone, _CONIFER), alpha)


def bush(random: Random) -> Texture:
    """Return a bush, twice as wide as it is high."""
    y, radius = random.uniform([[0.6], [0.3]], [[0.85], [0.5]], (2, 6))
    blobs = np.stack([np.linspace(0.35, 1.65, 6), y, radius], axis=1).astype(np.float32)
    leaves, cover = _foliage(random, (160, 320), blobs, 5)
    return Texture(leaves * np.linspace(1.05, 0.6, 160, dtype=np.float32)[:, None, None], cover)


def tuft(random: Random) -> Texture:
    """Return a clump of tall grass, twice as wide as it is high."""
    x, bend, top = random.uniform(0.12, 0.88, 70), random.normal(0, 0.05, 70), random.uniform(0.08, 0.6, 70)
    points = np.stack([[x, np.full(70, 1.02)], [x + bend / 2, np.full(70, 0.6)], [x + bend, top]]).transpose(2, 0, 1)
    alpha = mask((96, 192), [_limb(blade.tolist(), 0.014, 0.008, 0.003) for blade in points])
    rgb = palette(clouds(random, (96, 192), 12, 3), ((0.13, 0.16, 0.06), (0.33, 0.36, 0.15), (0.56, 0.52, 0.28)))
    return Texture(rgb * np.linspace(1.15, 0.6, 96, dtype=np.float32)[:, None, None], alpha)


def hills(random: Random, columns: int = 2048, rows: int = 256) -> Texture:
    """Return the panorama behind everything: wooded hills, tileable to the sides."""
    crest = clouds(random, (64, columns), 2, 5, 0.5)[20]
    ragged = clouds(random, (64, columns), 32, 2, 0.7)[20]
    ridge = 0.25 + 0.55 * crest + 0.06 * ragged  # Height in shares of the picture.
    above = np.linspace(1, 0, rows, dtype=np.float32)[:, None]
    alpha = ramp(ridge[None, :] - above, -0.004, 0.012)
    woods = 0.6 * clouds(random, (rows, columns), 24, 4, 0.7) + 0.4 * clouds(random, (rows, columns), 3, 3)
    return Texture(palette(woods, ((0.10, 0.14, 0.10), (0.22, 0.28, 0.17), (0.36, 0.41, 0.25))), alpha)


def facade(random: Random, width: float, height: float) -> Texture:
    """Return a house front of the given size in metres, about 26 pixels per metre."""
    size = h, w = round(height * 26), round(width * 26)
    wall = np.asarray(_WALLS[int(random.integers(len(_WALLS)))], dtype=np.float32)
    rgb = wall * (0.82 + 0.3 * clouds(random, size, 4, 5)[..., None])
    if wall[0] - wall[2] > 0.2:  # Reddish walls show their bricks.
        rows, columns = np.mgrid[0:h, 0:w]
        joints = (rows % 5 == 0) | ((columns + (rows // 5 % 2) * 6) % 12 == 0)
        rgb = blend(rgb, (0.55, 0.50, 0.45), joints.astype(np.float32) * 0.35)
    floors, axes = max(round(height / 3.1), 1), max(round(width / random.uniform(2.3, 3.2)), 1)
    half, tall, shop = random.uniform(0.45, 0.7) / width, random.uniform(1.3, 1.7) / height, random.random() < 0.45
    edges = [(0, (k + 1) / floors - 3 / h, 1, (k + 1) / floors) for k in range(floors)] + [(0, 0, 1, 9 / h)]
    frames, panes, curtains, doors = [], [], [], []
    for floor, axis in np.ndindex(floors, axes):
        middle, top, street = (axis + 0.5) / axes, (floor + 0.22) / floors, floor == floors - 1
        if street and not shop and axis == axes // 2:
            doors.append((middle - 0.54 / width, top, middle + 0.54 / width, 1))
            continue
        wide, bottom = (min(0.42 / axes, 1.8 * half), 1 - 10 / h) if street and shop else (half, top + tall)
        frames.append((middle - wide - 3 / w, top - 3 / h, middle + wide + 3 / w, bottom + 4 / h))
        panes += [(middle - wide, top, middle - 1 / w, bottom), (middle + 1 / w, top, middle + wide, bottom)]
        if random.random() < 0.3:
            curtains.append((middle - wide, top, middle - 0.35 * wide, bottom))
    glass = np.tile(gradient((h // floors + 1, w), (0.36, 0.41, 0.46), (0.06, 0.07, 0.09)), (floors, 1, 1))[:h]
    layers = ((wall * 0.72, edges), (wall * 1.18, frames), (glass, panes), (_CURTAIN, curtains), (_DOOR, doors))
    for colour, rectangles in layers:
        rgb = blend(rgb, colour, mask(size, [{"box": corners} for corners in rectangles]))
    return Texture(rgb * np.linspace(1.06, 0.86, h, dtype=np.float32)[:, None, None], np.ones(size, dtype=np.float32))


def roof(random: Random) -> Texture:
    """Return a tiled pitched roof, seen from below its eaves: a trapezoid, wider than high."""
    tones = ((0.24, 0.12, 0.09), (0.42, 0.22, 0.16), (0.36, 0.25, 0.21))
    waves = 0.92 + 0.12 * np.sin(np.arange(90, dtype=np.float32) * 0.9)
    rgb = palette(clouds(random, (90, 360), 6, 4), tones) * waves[:, None, None]
    return Texture(rgb, mask((90, 360), [{"polygon": [(0.0, 1.0), (0.10, 0.04), (0.90, 0.04), (1.0, 1.0)]}]))


def gable(random: Random) -> Texture:
    """Return the triangle of wall under a pitched roof, 2.5 times as wide as high."""
    size, wall = (80, 200), np.asarray(_WALLS[int(random.integers(len(_WALLS)))])
    inner = (wall * (0.85 + 0.25 * clouds(random, size, 4, 4)[..., None])).astype(np.float32)
    cover = mask(size, [{"polygon": [(0.06, 1.0), (0.94, 1.0), (0.5, 0.07)]}])
    outline = mask(size, [{"polygon": [(0, 1), (1, 1), (0.5, 0)]}])
    return Texture(blend(np.full_like(inner, 0.25), inner, cover), outline)
