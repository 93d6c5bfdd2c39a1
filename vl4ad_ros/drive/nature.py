"""Trees, bushes, grass tufts and hills."""

from __future__ import annotations

import cv2
import numpy as np

from vl4ad_ros.drive.noise import Canvas, Float, Random, blend, clouds, palette, ramp, relief
from vl4ad_ros.drive.quads import Texture

_GREENS = (
    ((0.05, 0.09, 0.03), (0.15, 0.23, 0.07), (0.29, 0.37, 0.13), (0.44, 0.50, 0.22)),
    ((0.04, 0.08, 0.04), (0.11, 0.19, 0.08), (0.22, 0.31, 0.13), (0.36, 0.44, 0.21)),
    ((0.07, 0.08, 0.03), (0.20, 0.22, 0.08), (0.36, 0.36, 0.14), (0.52, 0.48, 0.22)),
)
_CONIFER = ((0.02, 0.05, 0.03), (0.07, 0.13, 0.07), (0.15, 0.23, 0.12), (0.25, 0.33, 0.19))
_BARK = ((0.09, 0.07, 0.05), (0.24, 0.19, 0.14), (0.40, 0.33, 0.25))


def _foliage(random: Random, shape: tuple[int, int], mass: Float, coarse: int, greens: int) -> tuple[Float, Float]:
    """Return colours and coverage of leaves where `mass` (0..1) is high, lit from above."""
    clumps, leaves = clouds(random, shape, coarse, 4, 0.55), clouds(random, shape, shape[0] // 7, 3, 0.7)
    density = mass + 0.55 * (clumps - 0.5) + 0.45 * (leaves - 0.5)
    alpha = ramp(density, 0.40, 0.52) * ramp(mass, 0.05, 0.25)
    # Each clump is lit on its upper left: the slope of the coarse noise towards the light.
    smooth = cv2.GaussianBlur(clumps, (0, 0), shape[0] / 90)
    slope = np.roll(smooth, shape[0] // 28, axis=0) - np.roll(smooth, -shape[0] // 28, axis=0)
    height = np.linspace(0.16, -0.16, shape[0], dtype=np.float32)[:, None]
    tone = np.clip(0.5 - 1.25 * slope + 0.5 * (leaves - 0.5) + height, 0, 1)
    return palette(tone, _GREENS[greens % len(_GREENS)]), alpha


def tree(random: Random, size: int = 320) -> Texture:
    """Return a broad-leaved tree; the picture is as wide as it is high."""
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    lean = float(random.uniform(-0.06, 0.06))
    trunk = Canvas(size, size)
    top = (0.5 + lean, 0.45)
    trunk.limb([(0.5, 1.0), (0.5 + lean / 2, 0.72), top], (0.075, 0.05, 0.03))
    for side in (-1, 1):
        for start in (0.62, 0.5):
            reach = float(random.uniform(0.12, 0.26))
            trunk.limb([(0.5 + lean / 2, start + 0.08), (0.5 + side * reach, start - 0.16)], (0.03, 0.012))
    mass = np.zeros((size, size), dtype=np.float32)
    for _ in range(int(random.integers(13, 20))):
        angle, distance = random.uniform(0, 2 * np.pi), random.uniform(0.04, 0.29)
        x, y = 0.5 + lean + 1.15 * distance * np.cos(angle), 0.37 + 0.9 * distance * np.sin(angle)
        radius = random.uniform(0.13, 0.2)
        blob = 1.12 - ((columns - x) ** 2 + (1.15 * (rows - y)) ** 2) / radius**2 * 0.62
        mass = np.maximum(mass, np.asarray(blob, dtype=np.float32))
    leaves, cover = _foliage(random, (size, size), np.clip(mass, 0, 1), 6, int(random.integers(3)))
    wood = trunk.mask()
    bark = palette(clouds(random, (size, size), 24, 4), _BARK) * relief(wood, 0.02)[..., None]
    return Texture(blend(bark, leaves, cover), np.maximum(wood, cover))


def conifer(random: Random, size: int = 320) -> Texture:
    """Return a spruce; the picture is half as wide as it is high."""
    width = size // 2
    rows, columns = np.mgrid[0:size, 0:width].astype(np.float32)
    rows, columns = rows / size, columns / width - 0.5
    tiers = 0.5 + 0.5 * np.cos(rows * np.pi * 2 * random.uniform(8, 12))
    reach = 0.46 * np.clip(rows - 0.02, 0, 1) * (0.72 + 0.28 * tiers)
    mass = np.clip(1.0 - 0.55 * np.abs(columns) / np.maximum(reach, 0.01), 0, 1) * ramp(1 - rows, 0.04, 0.10)
    needles = clouds(random, (size, width), size // 6, 3, 0.8)
    alpha = ramp(mass + 0.5 * (needles - 0.5), 0.40, 0.55)
    tone = np.clip(0.35 + 0.5 * (needles - 0.5) - 0.35 * (tiers - 0.5) - 0.5 * columns, 0, 1)
    wood = Canvas(size, width).limb([(0.5, 1.0), (0.5, 0.1)], (0.09, 0.02)).mask()
    bark = palette(clouds(random, (size, width), 24, 4), _BARK)
    return Texture(blend(bark, palette(tone, _CONIFER), alpha), np.maximum(wood, alpha))


def bush(random: Random, size: int = 160) -> Texture:
    """Return a bush, twice as wide as it is high."""
    rows, columns = np.mgrid[0:size, 0 : 2 * size].astype(np.float32) / size
    mass = np.zeros((size, 2 * size), dtype=np.float32)
    for x in np.linspace(0.35, 1.65, 6):
        y, radius = random.uniform(0.6, 0.85), random.uniform(0.3, 0.5)
        blob = 1.1 - ((columns - x) ** 2 + (rows - y) ** 2) / radius**2 * 0.6
        mass = np.maximum(mass, np.asarray(blob, dtype=np.float32))
    leaves, cover = _foliage(random, (size, 2 * size), np.clip(mass, 0, 1), 5, int(random.integers(3)))
    return Texture(leaves * np.linspace(1.05, 0.6, size, dtype=np.float32)[:, None, None], cover)


def tuft(random: Random, size: int = 96) -> Texture:
    """Return a clump of tall grass, twice as wide as it is high."""
    canvas = Canvas(size, 2 * size)
    for x in random.uniform(0.12, 0.88, 70):
        tip = x + random.normal(0, 0.05)
        canvas.limb([(x, 1.02), ((x + tip) / 2, 0.6), (tip, random.uniform(0.08, 0.6))], (0.014, 0.008, 0.003))
    dry = clouds(random, (size, 2 * size), 12, 3)
    colours = palette(dry, ((0.13, 0.16, 0.06), (0.33, 0.36, 0.15), (0.56, 0.52, 0.28)))
    return Texture(colours * np.linspace(1.15, 0.6, size, dtype=np.float32)[:, None, None], canvas.mask())


def hills(random: Random, columns: int = 2048, rows: int = 256) -> Texture:
    """Return the panorama behind everything: wooded hills, tileable to the sides."""
    crest = clouds(random, (64, columns), 2, 5, 0.5)[20]
    ragged = clouds(random, (64, columns), 32, 2, 0.7)[20]
    ridge = 0.25 + 0.55 * crest + 0.06 * ragged  # Height in shares of the picture.
    above = np.linspace(1, 0, rows, dtype=np.float32)[:, None]
    alpha = ramp(ridge[None, :] - above, -0.004, 0.012)
    woods = 0.6 * clouds(random, (rows, columns), 24, 4, 0.7) + 0.4 * clouds(random, (rows, columns), 3, 3)
    return Texture(palette(woods, ((0.10, 0.14, 0.10), (0.22, 0.28, 0.17), (0.36, 0.41, 0.25))), alpha)
