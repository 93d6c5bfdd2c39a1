"""The camera, the road's course and its cross-section, and the way that the camera takes along it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.drive.paint import Float, Random

FOCAL_PER_WIDTH = 0.9  # About 58 degrees across.
EYE = 1.5  # Height of the camera above the ground, metres.


def camera_pitch(width: int, height: int) -> float:
    """Return the pitch at which the camera of this size is mounted, radians downwards."""
    return float(np.arctan(0.05 * height / (FOCAL_PER_WIDTH * width)))


@dataclass(frozen=True)
class Camera:
    """A camera: columns, rows, position; angles in radians, yaw to the right of Z, pitch downwards, roll clockwise."""

    width: int
    height: int
    position: tuple[float, float, float]
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return FOCAL_PER_WIDTH * self.width

    @cached_property
    def rotation(self) -> NDArray[np.float64]:
        """World to camera (right, down, forward), [3, 3]."""
        level = np.array([np.sin(self.yaw), 0.0, np.cos(self.yaw)])
        forward = level * np.cos(self.pitch) - np.array([0.0, np.sin(self.pitch), 0.0])
        right = np.array([level[2], 0.0, -level[0]])
        down = np.cross(right, forward)
        c, s = np.cos(self.roll), np.sin(self.roll)
        return np.stack([c * right + s * down, c * down - s * right, forward])

    @cached_property
    def projection(self) -> NDArray[np.float64]:
        """From directions in the world to homogeneous pixels, [3, 3]."""
        middle = (self.width - 1) / 2, (self.height - 1) / 2
        return np.array([[self.focal, 0, middle[0]], [0, self.focal, middle[1]], [0, 0, 1]]) @ self.rotation

    def depth(self, point: NDArray[np.float64]) -> float:
        """Return a point's distance along the camera's axis, metres."""
        return float(self.rotation[2] @ (point - np.asarray(self.position)))

    def rays(self, first_row: int = 0) -> Float:
        """Return each pixel's direction in the world from a row downwards, [rows, width, 3]; the forward part is 1."""
        columns = (np.arange(self.width, dtype=np.float32) - (self.width - 1) / 2) / self.focal
        rows = (np.arange(first_row, self.height, dtype=np.float32) - (self.height - 1) / 2) / self.focal
        right, down, forward = self.rotation.astype(np.float32)
        return np.asarray(columns[None, :, None] * right + rows[:, None, None] * down + forward, dtype=np.float32)


# Metres to the right of the centre line: one oncoming lane (-3.5..0) and two own lanes (0..3.5..7).
LEFT_EDGE = -3.9
RIGHT_EDGE = 7.4
BAY = 2.4  # Width of the parking bay on the right, in town.
LANES = (1.75, 5.25)
# Anomalies lie at places this far apart, metres; after some of them comes a stretch with none in sight.
SPACING, GROUP, FREE_STRETCH = 20.0, 8, 120.0


class Road:
    """A gently winding road through town and country."""

    def __init__(self, random: Random, length: float) -> None:
        self._bends = random.uniform([[2, 38, 0], [5, 95, 0]], [[4, 60, 6.28], [9, 140, 6.28]]).tolist()
        steps = random.uniform(60, 100, int(length / 60) + 8)
        self._changes = (random.uniform(25, 60) + np.cumsum(steps) - steps[0]).tolist()
        self._town_first = bool(random.random() < 0.5)
        self._lane = int(random.integers(2))
        index = np.arange(int(length / SPACING) + 10)
        self.places = (index + 1.2) * SPACING + index // GROUP * FREE_STRETCH + random.uniform(-2, 2, len(index))

    def centre(self, z: Float) -> Float:
        """Return X of the centre line."""
        return np.asarray(sum(a * np.sin(z / b + p) - a * np.sin(p) for a, b, p in self._bends), dtype=np.float32)

    def heading(self, z: float) -> float:
        """Return the direction of the road, radians to the right of Z."""
        return float(np.arctan(sum(a / b * np.cos(z / b + p) for a, b, p in self._bends)))

    def urban(self, z: Float) -> Float:
        """Return 1 in town, 0 in the country, with a short transition."""
        value = np.full(np.shape(z), float(self._town_first), dtype=np.float32)
        for index, change in enumerate(self._changes):
            sign = -1 if (index % 2 == 0) == self._town_first else 1
            value += sign * np.clip((z - change) / 4 + 0.5, 0, 1).astype(np.float32)
        return value

    def in_town(self, z: float) -> bool:
        """Return whether a place is in town."""
        return bool(self.urban(np.full(1, z, dtype=np.float32))[0] > 0.5)

    def anomaly_lane(self, index: int) -> float:
        """Return the lateral position of the lane in which the anomaly of a place lies."""
        return LANES[(self._lane + index) % 2]

    def driven(self, z: float) -> float:
        """Return the lateral position of the traffic at z: it passes each anomaly in the other lane."""
        index = int(np.searchsorted(self.places, z))
        before, after = self.anomaly_lane(index), self.anomaly_lane(index + 1)
        if index == 0:
            return after
        last, following = self.places[index - 1 : index + 1]
        t = float(np.clip(((z - last) / (following - last) - 0.22) / 0.56, 0, 1))
        return float(before + (after - before) * t * t * (3 - 2 * t))
