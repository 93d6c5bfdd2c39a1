"""Noise, soft shapes and shading: what the drive's textures are made of. All values are floats around [0, 1]."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Random = np.random.Generator
Points = Sequence[Sequence[float]]
Colour = Float | Sequence[float]
Shape = Mapping[str, Any]
"""`polygon`, `curve`, `oval`, `box` or `limb` with its numbers, as `config/drive/things.yaml` explains them."""

_CIRCLE = np.linspace(0, 2 * np.pi, 48, endpoint=False)
_SUB = 3  # Each pixel of a mask is drawn as 3 x 3.


@dataclass(frozen=True, eq=False)
class Texture:
    """Colours in [0, 1] with coverage: `rgb` [H, W, 3], `alpha` [H, W]."""

    rgb: Float
    alpha: Float

    @cached_property
    def levels(self) -> list[NDArray[np.uint8]]:
        """Premultiplied RGBA, each level half the size of the one before."""
        rgba = np.dstack([np.clip(self.rgb, 0, 1) * self.alpha[..., None], self.alpha])
        levels = [np.asarray(np.round(rgba * 255), dtype=np.uint8)]
        while min(levels[-1].shape[:2]) > 4:
            levels.append(np.asarray(cv2.pyrDown(levels[-1]), dtype=np.uint8))
        return levels

    def mirrored(self) -> Texture:
        """Return the texture with left and right swapped."""
        return Texture(np.ascontiguousarray(self.rgb[:, ::-1]), np.ascontiguousarray(self.alpha[:, ::-1]))


def clouds(random: Random, shape: tuple[int, int], cells: int, octaves: int = 5, gain: float = 0.5) -> Float:
    """Return tileable fractal noise [H, W] in [0, 1].

    The coarsest octave has `cells` cells along the rows; each next one has twice as many, and `gain` of the amplitude.
    """
    total = np.zeros(shape, dtype=np.float32)
    for octave in range(octaves):
        rows = min(cells << octave, shape[0])
        columns = min(max(round(rows * shape[1] / shape[0]), 1), shape[1])
        grid = random.random((rows, columns), dtype=np.float32)
        # Three cells more on each side, wrapped, and cut off again: the tile's edges meet.
        wide = np.pad(grid, 3, mode="wrap")
        size = (round(wide.shape[1] * shape[1] / columns), round(wide.shape[0] * shape[0] / rows))
        smooth = cv2.resize(wide, size, interpolation=cv2.INTER_CUBIC)
        top, left = round(3 * shape[0] / rows), round(3 * shape[1] / columns)
        total += gain**octave * smooth[top : top + shape[0], left : left + shape[1]]
    low, high = np.percentile(total, (1, 99))
    return np.asarray(np.clip((total - low) / max(high - low, 1e-6), 0, 1), dtype=np.float32)


def ramp(value: Float, low: float, high: float) -> Float:
    """Return a smooth step from 0 at `low` to 1 at `high`."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def blend(first: Float, second: Colour, weight: Float) -> Float:
    """Return first * (1 - weight) + second * weight for colours [H, W, 3] and weights [H, W]."""
    share = weight[..., None]
    return np.asarray(first * (1 - share) + np.asarray(second, dtype=np.float32) * share, dtype=np.float32)


def palette(value: Float, colours: Sequence[Sequence[float]]) -> Float:
    """Return colours [H, W, 3] for values [H, W] in [0, 1], interpolated along a list of RGB colours in [0, 1]."""
    stops = np.linspace(0, 1, len(colours))
    channels = [np.interp(value, stops, channel) for channel in zip(*colours, strict=True)]
    return np.stack(channels, axis=-1).astype(np.float32)


def gradient(size: tuple[int, int], top: Sequence[float], bottom: Sequence[float]) -> Float:
    """Return a vertical gradient between two RGB colours, [H, W, 3]."""
    return palette(np.linspace(0, 1, size[0], dtype=np.float32)[:, None].repeat(size[1], axis=1), (top, bottom))


def soften(mask: Float, sigma: float) -> Float:
    """Return a mask with Gaussian edges, sigma in pixels."""
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), dtype=np.float32)


def _curve(points: Points) -> NDArray[np.float64]:
    """Return a closed smooth (Catmull-Rom) curve through points as a polygon."""
    p = np.asarray(points, dtype=np.float64)
    before, after, beyond = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = np.linspace(0, 1, 12, endpoint=False)[:, None, None]
    bend, twist = 2 * before - 5 * p + 4 * after - beyond, 3 * p - before - 3 * after + beyond
    smooth = p + 0.5 * ((after - before) * t + bend * t**2 + twist * t**3)
    return np.asarray(smooth.transpose(1, 0, 2).reshape(-1, 2))


def _polygons(shape: Shape) -> Iterator[NDArray[np.float64]]:
    """Yield the polygons of a shape that is no limb."""
    if "box" in shape:
        left, top, right, bottom = shape["box"]
        points = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    elif "oval" in shape:
        x, y, rx, ry = shape["oval"]
        points = np.stack([x + rx * np.cos(_CIRCLE), y + ry * np.sin(_CIRCLE)], axis=1)
    else:
        points = _curve(shape["curve"]) if "curve" in shape else np.asarray(shape["polygon"])
    count, step = shape.get("repeat", (1, 0))
    for index in range(count):
        yield points + np.array([index * step, 0])
    if shape.get("both"):
        yield np.array([1, 0]) + points * (-1, 1)


def _fill_limb(drawn: NDArray[np.uint8], points: NDArray[np.float64], radii: NDArray[np.float64]) -> None:
    """Fill a chain of tapered segments, in pixels."""
    for (start, end), (first, last) in zip(pairwise(points), pairwise(radii), strict=True):
        side = np.array([start[1] - end[1], end[0] - start[0]]) / max(float(np.hypot(*(end - start))), 1e-6)
        outline = [start + side * first, end + side * last, end - side * last, start - side * first]
        cv2.fillConvexPoly(drawn, np.round(outline).astype(np.int32), 255)
    for (x, y), radius in zip(points, radii, strict=True):
        cv2.circle(drawn, (round(x), round(y)), round(radius), 255, -1)


def mask(size: tuple[int, int], shapes: Iterable[Shape]) -> Float:
    """Return the coverage [H, W] by filled shapes, with soft edges."""
    drawn = np.zeros((size[0] * _SUB, size[1] * _SUB), dtype=np.uint8)
    scale = np.array(drawn.shape[::-1])
    for shape in shapes:
        if "limb" in shape:
            radii = np.maximum(np.asarray(shape["widths"]) * scale[0] / 2, 1)
            _fill_limb(drawn, np.asarray(shape["limb"]) * scale, radii)
            continue
        for polygon in _polygons(shape):
            cv2.fillPoly(drawn, [np.round(polygon * scale).astype(np.int32)], 255)
    small = cv2.resize(drawn, size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(np.multiply(small, np.float32(1 / 255)), dtype=np.float32)


def relief(mask: Float, roundness: float, bumps: Float | None = None) -> Float:
    """Return the brightness [H, W] of a silhouette as if it were inflated and lit from its upper left: 0.35 to 1.1.

    `roundness` is the radius of its rim in shares of the height, `bumps` [H, W] the surface's own relief in shares of
    that radius.
    """
    radius = max(roundness * mask.shape[0], 1.0)
    inside = np.pad(np.asarray(mask > 0.5, dtype=np.uint8), 1)
    depth = np.minimum(cv2.distanceTransform(inside, cv2.DIST_L2, 5)[1:-1, 1:-1] / radius, 1)
    height = np.sqrt(np.maximum(1 - (1 - depth) ** 2, 0)) * radius
    if bumps is not None:
        height = height + bumps * radius
    height = cv2.GaussianBlur(height.astype(np.float32), (0, 0), max(radius * 0.08, 0.8))
    dx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    dy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    cosine = (0.4 * dx + 0.75 * dy + 0.5) / (0.9862 * np.sqrt(dx * dx + dy * dy + 1))
    return np.asarray(0.42 + 0.72 * np.clip(cosine, 0, 1), dtype=np.float32)
