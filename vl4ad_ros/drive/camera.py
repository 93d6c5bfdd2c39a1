"""The pinhole camera. World: X right, Y up, Z along the road, in metres; the ground is Y = 0."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.drive.paint import Float

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
