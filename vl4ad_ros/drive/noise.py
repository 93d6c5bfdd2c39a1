"""Noise, soft shapes and shading: what the drive's textures are made of. All values are floats around [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Random = np.random.Generator


def clouds(random: Random, shape: tuple[int, int], cells: int, octaves: int = 5, gain: float = 0.5) -> Float:
    """Return tileable fractal noise in [0, 1].

    Args:
        random: Source of randomness.
        shape: Rows and columns.
        cells: Cells of the coarsest octave along the rows; each octave doubles them.
        octaves: Number of octaves.
        gain: Amplitude of an octave over that of the one before.
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


def blend(first: Float, second: Float | Sequence[float], weight: Float) -> Float:
    """Return first * (1 - weight) + second * weight for colours [H, W, 3] and weights [H, W]."""
    share = weight[..., None]
    return np.asarray(first * (1 - share) + np.asarray(second, dtype=np.float32) * share, dtype=np.float32)


def palette(value: Float, colours: Sequence[Sequence[float]]) -> Float:
    """Return colours [H, W, 3] for values [H, W] in [0, 1], interpolated along a list of RGB colours in [0, 1]."""
    stops = np.linspace(0, 1, len(colours))
    table = np.asarray(colours, dtype=np.float32)
    colours_of = np.empty((*value.shape, 3), dtype=np.float32)
    for channel in range(3):
        colours_of[..., channel] = np.interp(value, stops, table[:, channel])
    return colours_of


def gradient(height: int, width: int, top: Sequence[float], bottom: Sequence[float]) -> Float:
    """Return a vertical gradient between two RGB colours, [H, W, 3]."""
    t = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    row = np.asarray(top, dtype=np.float32) * (1 - t) + np.asarray(bottom, dtype=np.float32) * t
    return np.array(np.broadcast_to(row, (height, width, 3)), dtype=np.float32)


def soften(mask: Float, sigma: float) -> Float:
    """Return a mask with Gaussian edges, sigma in pixels."""
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), dtype=np.float32)


class Canvas:
    """A mask that shapes are drawn into with soft edges; coordinates are shares of the width and of the height."""

    _SUB = 3  # Each pixel is drawn as 3 x 3.

    def __init__(self, height: int, width: int) -> None:
        self._size = (height, width)
        self._mask = np.zeros((height * self._SUB, width * self._SUB), dtype=np.uint8)

    def _scale(self, points: Sequence[Sequence[float]]) -> NDArray[np.int32]:
        height, width = self._mask.shape
        return np.round(np.asarray(points, dtype=np.float64) * (width, height)).astype(np.int32)

    def polygon(self, points: Sequence[Sequence[float]], value: int = 255) -> Canvas:
        """Fill a polygon."""
        cv2.fillPoly(self._mask, [self._scale(points)], value)
        return self

    def curve(self, points: Sequence[Sequence[float]], value: int = 255) -> Canvas:
        """Fill a closed smooth (Catmull-Rom) curve through points."""
        p = np.asarray(points, dtype=np.float64)
        before, after, beyond = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
        t = np.linspace(0, 1, 12, endpoint=False)[:, None, None]
        smooth = 0.5 * (
            2 * p
            + (after - before) * t
            + (2 * before - 5 * p + 4 * after - beyond) * t**2
            + (3 * p - before - 3 * after + beyond) * t**3
        )
        return self.polygon(smooth.transpose(1, 0, 2).reshape(-1, 2).tolist(), value)

    def ellipse(self, x: float, y: float, rx: float, ry: float, angle: float = 0.0, value: int = 255) -> Canvas:
        """Fill an ellipse; `rx`, `ry` are shares of the width and the height."""
        height, width = self._mask.shape
        centre, axes = (round(x * width), round(y * height)), (max(round(rx * width), 1), max(round(ry * height), 1))
        cv2.ellipse(self._mask, centre, axes, angle, 0, 360, value, -1)
        return self

    def limb(self, points: Sequence[Sequence[float]], thickness: Sequence[float], value: int = 255) -> Canvas:
        """Fill a chain of tapered segments; thickness in shares of the width, one per point."""
        width = self._mask.shape[1]
        pixels = self._scale(points).astype(np.float64)
        for start, end, first, last in zip(pixels, pixels[1:], thickness, thickness[1:], strict=False):
            radii = np.maximum(np.array([first, last]) * width / 2, 1.0)
            side = np.array([start[1] - end[1], end[0] - start[0]]) / max(float(np.hypot(*(end - start))), 1e-6)
            outline = [start + side * radii[0], end + side * radii[1], end - side * radii[1], start - side * radii[0]]
            cv2.fillConvexPoly(self._mask, np.round(outline).astype(np.int32), value)
            for centre, radius in zip((start, end), radii, strict=True):
                cv2.circle(self._mask, (round(centre[0]), round(centre[1])), round(radius), value, -1)
        return self

    def mask(self) -> Float:
        """Return the coverage, [H, W] in [0, 1]."""
        height, width = self._size
        small = cv2.resize(self._mask, (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(np.multiply(small, np.float32(1 / 255)), dtype=np.float32)


def relief(
    mask: Float, roundness: float, bumps: Float | None = None, light: Sequence[float] = (-0.4, -0.75, 0.5)
) -> Float:
    """Shade a silhouette as if it were inflated.

    Args:
        mask: Coverage [H, W].
        roundness: Radius of the rounded rim, in shares of the height.
        bumps: Height map [H, W] of the surface's own relief, in shares of that radius.
        light: Direction to the light: right, down, towards the viewer.

    Returns:
        Brightness [H, W], about 0.35 in the shade to 1.1 in the light.
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
    towards = np.asarray(light, dtype=np.float32) / np.linalg.norm(light)
    cosine = (-dx * towards[0] - dy * towards[1] + towards[2]) / np.sqrt(dx * dx + dy * dy + 1)
    return np.asarray(0.42 + 0.72 * np.clip(cosine, 0, 1), dtype=np.float32)
