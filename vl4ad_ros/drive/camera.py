"""The pinhole camera. World: X right, Y up, Z along the road, in metres; the ground is Y = 0."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.drive.noise import Float

FOCAL_PER_WIDTH = 0.9  # About 58 degrees across.


@dataclass(frozen=True)
class Camera:
    """A camera at one moment.

    Attributes:
        width: Columns.
        height: Rows.
        position: X, Y, Z.
        yaw: Heading, positive to the right of Z, radians.
        pitch: Positive downwards, radians.
        roll: Positive clockwise, radians.
    """

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
        forward = np.array(
            [np.sin(self.yaw) * np.cos(self.pitch), -np.sin(self.pitch), np.cos(self.yaw) * np.cos(self.pitch)]
        )
        right = np.array([np.cos(self.yaw), 0.0, -np.sin(self.yaw)])
        down = np.cross(right, forward)
        c, s = np.cos(self.roll), np.sin(self.roll)
        return np.stack([c * right + s * down, c * down - s * right, forward])

    @cached_property
    def projection(self) -> NDArray[np.float64]:
        """From directions in the world to homogeneous pixels, [3, 3]."""
        intrinsic = np.array(
            [[self.focal, 0, (self.width - 1) / 2], [0, self.focal, (self.height - 1) / 2], [0, 0, 1]], dtype=np.float64
        )
        return np.asarray(intrinsic @ self.rotation)

    def project(self, point: NDArray[np.float64]) -> tuple[float, float, float]:
        """Return column, row and depth of a point."""
        u, v, w = self.projection @ (point - np.asarray(self.position))
        return float(u / w), float(v / w), float(w)

    def rays(self, first_row: int = 0) -> Float:
        """Return each pixel's direction in the world from a row downwards, [rows, width, 3]; the forward part is 1."""
        columns = (np.arange(self.width, dtype=np.float32) - (self.width - 1) / 2) / self.focal
        rows = (np.arange(first_row, self.height, dtype=np.float32) - (self.height - 1) / 2) / self.focal
        right, down, forward = self.rotation.astype(np.float32)
        directions = columns[None, :, None] * right + rows[:, None, None] * down + forward
        return np.asarray(directions, dtype=np.float32)
