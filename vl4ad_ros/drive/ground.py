"""The ground plane: asphalt with markings, kerbs, pavements, gravel and grass, computed at each pixel's point."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.drive.paint import Float, Random, blend, clouds, ramp
from vl4ad_ros.drive.road import BAY, LEFT_EDGE, RIGHT_EDGE, Camera, Road
from vl4ad_ros.drive.sky import Weather, horizon_row

_FAR = 420.0
_TILE = 512
# Metres per tile of each noise, and the distance at which pixels become too coarse for it.
_SCALES = ((2.2, 14.0), (17.0, 90.0), (130.0, 600.0))
_LINES = ((-3.5, 0.14, 0.0), (-0.1, 0.12, 0.0), (0.1, 0.12, 0.0), (3.5, 0.13, 9.0), (7.05, 0.15, 0.0))
_DASH = 3.6


class Ground:
    """The ground of a drive."""

    def __init__(self, random: Random, road: Road) -> None:
        self._road = road
        self._noise = [clouds(random, (_TILE, _TILE), 8, 6, gain) for gain in (0.85, 0.6, 0.5)]
        veins = np.abs(clouds(random, (_TILE, _TILE), 3, 5, 0.55) - 0.5)
        self._cracks: Float = np.exp(-((veins / 0.006) ** 2)).astype(np.float32)
        self._phase = float(random.uniform(0, 9))
        self._tone = float(random.uniform(0.37, 0.45))

    def _sample(self, tile: Float, x: NDArray[Any], z: NDArray[Any], metres: float) -> Float:
        column, row = (np.asarray(value * (_TILE / metres) % _TILE, dtype=np.float32) for value in (x, z))
        sampled: Float = cv2.remap(tile, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)  # type: ignore[assignment]
        return sampled

    def paint(self, rgb: Float, camera: Camera, weather: Weather) -> None:
        """Paint the ground into the rows of a picture below the horizon."""
        first = max(int(horizon_row(camera) - 0.05 * camera.height), 0)
        rays = camera.rays(first)
        below = rays[..., 1] < -camera.position[1] / _FAR
        distance = np.where(below, -camera.position[1] / np.minimum(rays[..., 1], -1e-6), _FAR).astype(np.float32)
        x_world = camera.position[0] + distance * rays[..., 0]
        z = np.asarray(camera.position[2] + distance * rays[..., 2], dtype=np.float32)
        x = np.asarray(x_world - self._road.centre(z), dtype=np.float32)
        noises = [
            (self._sample(tile, x_world.astype(np.float32), z, metres) - 0.5) * np.clip(2 - distance / reach, 0, 1)
            for tile, (metres, reach) in zip(self._noise, _SCALES, strict=True)
        ]
        footprint = distance / np.float32(camera.focal)
        ground = self._surface(x, z, distance, footprint, noises, weather)
        clear = np.asarray(np.exp(-weather["fog"] * distance), dtype=np.float32)
        rgb[first:][below] = blend(weather["horizon"], ground * weather["light"], clear)[below]

    def _surface(
        self, x: Float, z: Float, distance: Float, footprint: Float, noises: list[Float], weather: Weather
    ) -> Float:
        """Return the colours of the ground's points; `footprint` is the width of a pixel there, in metres."""
        fine, middle, coarse = noises
        urban = self._road.urban(z)
        verge = _mix((0.18, 0.25, 0.08), (0.46, 0.50, 0.24), 0.5 + 0.5 * fine + 0.55 * middle + 0.6 * coarse)
        paving = _mix((0.40, 0.39, 0.38), (0.60, 0.58, 0.55), 0.5 + 0.45 * fine + 0.5 * middle + 0.4 * coarse)
        joints = np.minimum(np.abs((x % 0.6) - 0.3), np.abs((z % 0.6) - 0.3))
        paving *= (1 - 0.25 * ramp(-joints, -0.02, -0.005) * np.clip(1.5 - distance / 12, 0, 1))[..., None]
        side = blend(verge, paving, urban)
        wobble = 0.35 * (1 - urban) * (middle + 0.4 * fine)
        gravel = _mix((0.30, 0.27, 0.23), (0.58, 0.54, 0.47), 0.5 + 0.9 * fine + 0.4 * middle)
        edge = RIGHT_EDGE + BAY * urban
        side = blend(side, gravel, _inside(x + wobble, LEFT_EDGE - 0.5, edge + 0.5, footprint) * (1 - urban))
        kerb = _inside(x, LEFT_EDGE - 0.16, LEFT_EDGE, footprint) + _inside(x, edge, edge + 0.16, footprint)
        side = blend(side, (0.62, 0.62, 0.62), kerb * urban)
        road = self._asphalt(x, z, distance, footprint, noises)
        if weather["wet"] > 0:
            glancing = np.clip(distance / 45, 0, 1) ** 1.5
            puddles = ramp(coarse + 0.6 * middle, -0.05, 0.25)
            mirror = weather["wet"] * (0.12 + 0.42 * glancing) * (0.55 + 0.45 * puddles)
            road = blend(road * (1 - 0.38 * weather["wet"]), weather["horizon"], mirror)
        return blend(side, road, _inside(x + 0.25 * wobble, LEFT_EDGE, edge, footprint))

    def _asphalt(self, x: Float, z: Float, distance: Float, footprint: Float, noises: list[Float]) -> Float:
        """Return the colours of the carriageway with its cracks, wheel tracks and markings."""
        fine, middle, coarse = noises
        tone = self._tone + 0.085 * fine + 0.045 * middle + 0.06 * coarse
        for lane in (-1.75, 1.75, 5.25):
            for track in (-0.8, 0.8):
                tone -= 0.022 * np.exp(-(((x - lane - track) / 0.28) ** 2))
            tone -= 0.03 * np.exp(-(((x - lane) / 0.35) ** 2)) * np.clip(0.5 + 2 * middle, 0, 1)  # Oil.
        cracks = self._sample(self._cracks, x, z, 9.0) * np.clip(1.6 - distance / 22, 0, 1)
        tone -= 0.12 * cracks * ramp(coarse, -0.05, 0.2)
        patch = ramp(self._sample(self._noise[2], np.round(x / 1.7) * 1.7, np.round(z / 6) * 6, 61.0), 0.70, 0.74)
        tone = tone - 0.05 * patch
        along = footprint * distance / np.float32(1.5)
        paint = np.zeros_like(tone)
        for position, width, period in _LINES:
            line = _inside(x, position - width / 2, position + width / 2, footprint)
            if period:
                phase = (z + self._phase) % period
                line = line * np.clip((_DASH / 2 - np.abs(phase - _DASH / 2)) / np.maximum(along, 0.02) + 0.5, 0, 1)
            paint = np.maximum(paint, line)
        paint = paint * np.clip(0.90 + 0.7 * fine + 0.8 * middle, 0.35, 0.95)
        return blend(tone[..., None] * np.array((1.0, 0.995, 0.985)), (0.8, 0.8, 0.8), paint)


def _inside(x: Float, low: float | Float, high: float | Float, footprint: Float) -> Float:
    """Return the share of each pixel (of width `footprint`) that lies between two positions."""
    width = np.maximum(footprint, 1e-3)
    left = np.clip((x - low) / width + 0.5, 0, 1)
    right = np.clip((high - x) / width + 0.5, 0, 1)
    return np.asarray(np.clip(left + right - 1, 0, 1), dtype=np.float32)


def _mix(dark: tuple[float, ...], bright: tuple[float, ...], share: Float) -> Float:
    low, high = np.asarray(dark, dtype=np.float32), np.asarray(bright, dtype=np.float32)
    return np.asarray(low + (high - low) * np.clip(share, 0, 1)[..., None], dtype=np.float32)
