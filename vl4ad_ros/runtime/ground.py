"""Distances on the ground plane: where the contact points of regions lie before the camera, and how surely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.regions import Region
from vl4ad_ros.runtime.settings import GroundSettings

Array = NDArray[np.float64]
# Sine of a camera's roll: more of it, and the plane's lines would no longer be the picture's rows.
MAX_ROLL = 0.1


@dataclass(frozen=True)
class GroundPoints:
    """Points on the ground, N of them, in metres; NaN where a pixel shows no ground that is near enough."""

    camera: Array  # [N, 3] in the camera's optical frame (right, down, forward)
    forward: Array  # [N] along the ground in the camera's direction
    left: Array  # [N] across it
    forward_sigma: Array  # [N], standard deviation of `forward`
    left_sigma: Array  # [N], standard deviation of `left`


@dataclass(frozen=True)
class Obstacle:
    """A confirmed track's region with its contact points, at least one, all of them finite."""

    region: Region
    points: GroundPoints

    @property
    def middle(self) -> int:
        """Index of the point with the median distance, the nearer one of two."""
        return int(np.argsort(self.points.forward)[(len(self.points.forward) - 1) // 2])

    @property
    def place(self) -> tuple[float, float, float, float]:
        """Distance, offset to the left, and their standard deviations, of the middle point; metres."""
        p, middle = self.points, self.middle
        distance, left, *sigmas = (float(v[middle]) for v in (p.forward, p.left, p.forward_sigma, p.left_sigma))
        return distance, left, sigmas[0], sigmas[1]


def mounted(
    settings: GroundSettings, height: float, rotation: tuple[float, float, float, float], frame: str
) -> GroundSettings:
    """Return the settings with the height and pitch of a camera's pose in the frame of the ground (z up).

    Args:
        height: Of the camera above the ground, metres.
        rotation: Quaternion x, y, z, w of its optical frame (right, down, forward).
        frame: Name of that frame, for people.
    """
    x, y, z, w = rotation
    right, down, forward = 2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)  # their parts upwards
    if height <= 0 or down >= 0 or abs(right) > MAX_ROLL:
        raise Vl4adError(
            f"TF has {frame} {height:.2f} m above the ground, turned as no camera's optical frame (x right, y down): "
            "obstacles have no distance."
        )
    return settings.model_copy(update={"height": height, "pitch": float(np.arcsin(np.clip(-forward, -1, 1)))})


def ground_plane(settings: GroundSettings, info: Any) -> GroundPlane:
    """Return the ground that a camera_info sees, a message of whatever library."""
    if settings.rectified:
        return GroundPlane(settings, (info.height, info.width), np.reshape(info.p, (3, 4))[:, :3])
    return GroundPlane(settings, (info.height, info.width), info.k, info.d, info.distortion_model)


class GroundPlane:
    """A calibrated camera above flat ground."""

    def __init__(
        self,
        settings: GroundSettings,
        size: tuple[int, int],
        matrix: ArrayLike,
        distortion: ArrayLike = (),
        model: str = "plumb_bob",
    ) -> None:
        """Check the calibration: K, or the left of P for rectified images, [3, 3], of an image of that `size`.

        `distortion` is D of a plumb_bob or rational_polynomial `model`; empty for rectified images.
        """
        self._matrix, self._distortion = np.array(matrix, np.float64).reshape(3, 3), np.array(distortion, np.float64)
        if not settings.height:
            raise Vl4adError("ground.height is not set: obstacles have no distance.")
        if not np.isfinite(self._matrix).all() or min(self._matrix[0, 0], self._matrix[1, 1], *size) <= 0:
            raise Vl4adError("camera_info holds no calibration: obstacles have no distance.")
        if self._distortion.any() and model not in ("plumb_bob", "rational_polynomial"):
            raise Vl4adError(f"The distortion model '{model}' is not known: expected plumb_bob or rational_polynomial.")
        self._settings, self._size = settings, size

    def locate(self, pixels: ArrayLike, size: tuple[int, int]) -> GroundPoints:
        """Return where pixels (column and row [N, 2]; their lower edge) of a map of `size` lie on the ground."""
        s = self._settings
        scale = np.array([self._size[1] / size[1], self._size[0] / size[0]])
        edge = (np.array(pixels, np.float64).reshape(-1, 2) + np.array([0.5, 1.0])) * scale - 0.5
        x, y = cv2.undistortPoints(edge[:, None], self._matrix, self._distortion)[:, 0].T
        angle = s.pitch + np.arctan(y)  # of the ray below the horizon, seen from the side
        with np.errstate(divide="ignore", invalid="ignore"):
            forward = s.height / np.tan(angle)
            outside = (angle <= 1e-6) | (forward > s.max_distance)
            angle[outside], forward[outside] = np.nan, np.nan
            depth = s.height / (y * np.cos(s.pitch) + np.sin(s.pitch)) + 0 * forward
            left = -x * depth
            pixel = s.pixel_sigma * scale / (self._matrix[0, 0], self._matrix[1, 1])
            angle_sigma = np.hypot(s.pitch_sigma, pixel[1] / (1 + y * y))
            forward_sigma = np.hypot(s.height * angle_sigma / np.sin(angle) ** 2, forward * s.height_sigma / s.height)
            left_sigma = np.hypot(left * forward_sigma / forward, depth * pixel[0])
        return GroundPoints(np.stack([-left, y * depth, depth], 1), forward, left, forward_sigma, left_sigma)

    def obstacles(self, regions: Sequence[Region], size: tuple[int, int]) -> tuple[Obstacle, ...]:
        """Return the confirmed tracks' regions in a map of `size` that stand on the ground, in their order.

        Where the picture's edge cuts something off, its lowest visible pixels count: it is no farther away than that.
        """
        found = []
        for one in regions:
            if one.confirmed and one.contacts:
                points = vars(self.locate(one.contacts, size))
                known = np.isfinite(points["forward"])
                if known.any():
                    kept = {name: values[known] for name, values in points.items()}
                    found.append(Obstacle(one, GroundPoints(**kept)))
        return tuple(found)
