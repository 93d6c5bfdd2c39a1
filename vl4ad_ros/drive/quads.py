"""Textured quads in space, drawn in exact perspective into a picture and its ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.drive.paint import Float, Texture
from vl4ad_ros.drive.road import Camera

_NEAR = 0.4  # Metres: what is nearer is cut away.
Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Quad:
    """A parallelogram in space."""

    origin: Vector  # lower left corner as seen from its front
    right: Vector  # along its lower edge
    up: Vector  # along its left edge
    texture: Texture  # what is on it
    light: float = 1.0  # brightness of the face; of a shadow, its strength
    shadow: bool = False  # whether it darkens (only the texture's coverage counts) rather than shows a colour
    one_sided: bool = False  # whether it is invisible from behind

    def moved(self, position: Vector, turn: float = 0.0) -> Quad:
        """Return the quad turned about Y by an angle, then moved."""
        c, s = np.cos(turn), np.sin(turn)
        rotation = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        corner = position + rotation @ self.origin
        return replace(self, origin=corner, right=rotation @ self.right, up=rotation @ self.up)


class Frame:
    """A picture under way."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.rgb: Float = np.zeros((camera.height, camera.width, 3), dtype=np.float32)  # float32 [H, W, 3]
        # Coverage by anomalies, and by those too small to be judged, float32 [H, W, 2].
        self.truth: Float = np.zeros((camera.height, camera.width, 2), dtype=np.float32)

    def draw(self, quad: Quad, weather: Mapping[str, Float], anomaly: bool = False, small: bool = False) -> None:
        """Draw a quad over what is there, in the weather's `light` and haze; an anomaly's also into the truth."""
        camera = self.camera
        to_camera = np.stack([quad.right, quad.up, quad.origin - np.asarray(camera.position)], axis=1)
        if quad.one_sided and np.dot(np.cross(quad.right, quad.up), to_camera[:, 2]) <= 0:
            return
        homography = camera.projection @ to_camera
        outline = _clip(homography[2])
        if len(outline) < 3:
            return
        pixels = np.stack([outline[:, 0], outline[:, 1], np.ones(len(outline))]).T @ homography.T
        corners = pixels[:, :2] / pixels[:, 2:]
        left, top = np.floor(np.clip(corners.min(axis=0), (0, 0), (camera.width, camera.height))).astype(int)
        right, bottom = np.ceil(np.clip(corners.max(axis=0), (-1, -1), (camera.width - 1, camera.height - 1))) + 1
        columns, rows = int(right) - left, int(bottom) - top
        if columns < 1 or rows < 1:
            return
        patch = self._warp(quad, homography, corners, (left, top, columns, rows), clipped=len(outline) != 4)
        alpha = patch[..., 3:]
        view = np.s_[top : top + rows, left : left + columns]
        if quad.shadow:
            self.rgb[view] *= 1 - alpha * np.float32(quad.light)
            return
        distance = float(np.linalg.norm(to_camera[:, 2] + (quad.right + quad.up) / 2))
        clear = float(np.exp(-weather["fog"] * distance))
        self.rgb[view] *= 1 - alpha
        self.rgb[view] += patch[..., :3] * (weather["light"] * (quad.light * clear))
        self.rgb[view] += alpha * (weather["horizon"] * (1 - clear))
        self.truth[view] *= 1 - alpha
        if anomaly:
            self.truth[view][..., int(small)] += alpha[..., 0]

    def _warp(
        self, quad: Quad, homography: Vector, corners: Vector, box: tuple[int, int, int, int], clipped: bool
    ) -> Float:
        """Return the quad's premultiplied RGBA in a box (left, top, columns, rows) of the picture."""
        left, top, columns, rows = box
        levels = quad.texture.levels
        area = max(float(cv2.contourArea(corners.astype(np.float32))), 1.0)
        size = levels[0].shape[0] * levels[0].shape[1]
        level = int(np.clip(np.floor(0.5 * np.log2(size / area) + 0.25), 0, len(levels) - 1))
        source = levels[level]
        height, width = source.shape[:2]
        # Pixel centres of the texture: column = s * width - 0.5, row = (1 - t) * height - 0.5.
        to_plane = np.array([[1 / width, 0, 0.5 / width], [0, -1 / height, 1 - 0.5 / height], [0, 0, 1]])
        shift = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], dtype=np.float64)
        warped = cv2.warpPerspective(source, shift @ homography @ to_plane, (columns, rows), flags=cv2.INTER_LINEAR)
        patch: Float = np.multiply(warped, np.float32(1 / 255), dtype=np.float32)
        if clipped:
            inside = np.zeros((rows, columns), dtype=np.uint8)
            polygon = np.clip(corners - (left, top), -30000, 30000)
            cv2.fillConvexPoly(inside, np.round(polygon).astype(np.int32), 1)
            patch *= inside[..., None]
        return patch


def _clip(depth: Vector) -> Vector:
    """Cut the unit square (s, t) where its depth, depth . (s, t, 1), is below `_NEAR`; return the polygon left."""
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float64)
    distances = square @ depth[:2] + depth[2] - _NEAR
    kept: list[Vector] = []
    for index in range(4):
        here, there, first, second = square[index - 1], square[index], distances[index - 1], distances[index]
        if first > 0:
            kept.append(here)
        if (first > 0) != (second > 0):
            kept.append(here + (there - here) * first / (first - second))
    return np.array(kept)


def picture(texture: Texture, height: float, along: bool = False) -> list[Quad]:
    """Return an upright picture of a height in metres that faces -Z, or stands along Z."""
    width = height * texture.alpha.shape[1] / texture.alpha.shape[0]
    right = np.array([0, 0, width]) if along else np.array([width, 0, 0])
    return [Quad(-right / 2, right, np.array([0, height, 0.0]), texture)]


def box(
    size: Sequence[float], front: Texture, side: Texture, top: Texture | None = None, ahead: float = 0.0
) -> list[Quad]:
    """Return the faces of a box (width, height, length) that stands on the ground with its front towards -Z."""
    x, height, z = size[0] / 2, size[1], size[2] / 2
    right, up, along = np.array([2 * x, 0, 0]), np.array([0, height, 0]), np.array([0, 0, 2 * z])
    low, high = np.array([-x, 0, ahead - z]), np.array([x, 0, ahead + z])
    faces = [
        Quad(low, right, up, front, 1.0, one_sided=True),
        Quad(high, -right, up, front, 0.8, one_sided=True),
        Quad(low + right, along, up, side, 0.82, one_sided=True),
        Quad(high - right, -along, up, side.mirrored(), 0.9, one_sided=True),
    ]
    if top is not None:
        faces.append(Quad(low + up, right, along, top, 1.15, one_sided=True))
    return faces
