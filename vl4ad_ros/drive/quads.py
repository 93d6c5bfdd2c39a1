"""Textured quads in space, drawn in exact perspective into a picture and its ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.drive.camera import Camera
from vl4ad_ros.drive.noise import Float

_NEAR = 0.4  # Metres: what is nearer is cut away.
Vector = NDArray[np.float64]


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


@dataclass(frozen=True, eq=False)
class Quad:
    """A parallelogram in space.

    Attributes:
        origin: Lower left corner as seen from its front.
        right: Along its lower edge.
        up: Along its left edge.
        texture: What is on it.
        light: Brightness of the face; of a shadow, its strength.
        shadow: Whether it darkens (only the texture's coverage counts) rather than shows a colour.
        one_sided: Whether it is invisible from behind.
    """

    origin: Vector
    right: Vector
    up: Vector
    texture: Texture
    light: float = 1.0
    shadow: bool = False
    one_sided: bool = False


@dataclass(frozen=True, eq=False)
class Air:
    """Light and haze between the camera and things.

    Attributes:
        light: Colour that things are lit with.
        fog: Colour of the haze.
        density: Its extinction, per metre.
    """

    light: Float
    fog: Float
    density: float


class Frame:
    """A picture under way.

    Attributes:
        camera: The camera.
        rgb: float32 [H, W, 3].
        anomaly: Coverage by anomalies, float32 [H, W].
        unsure: Coverage by anomalies too small to be judged.
    """

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.rgb: Float = np.zeros((camera.height, camera.width, 3), dtype=np.float32)
        self.anomaly: Float = np.zeros((camera.height, camera.width), dtype=np.float32)
        self.unsure: Float = np.zeros((camera.height, camera.width), dtype=np.float32)

    def draw(self, quad: Quad, air: Air, anomaly: bool = False, small: bool = False) -> None:
        """Draw a quad over what is there.

        Args:
            quad: The quad.
            air: Light and haze.
            anomaly: Whether it is part of an anomaly.
            small: Whether that anomaly is too small to be judged.
        """
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
        clear = float(np.exp(-air.density * distance))
        self.rgb[view] *= 1 - alpha
        self.rgb[view] += patch[..., :3] * (air.light * (quad.light * clear)) + alpha * (air.fog * (1 - clear))
        cover = alpha[..., 0]
        for buffer, hit in ((self.anomaly, anomaly and not small), (self.unsure, anomaly and small)):
            buffer[view] *= 1 - cover
            if hit:
                buffer[view] += cover

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
    if (distances > 0).all():
        return square
    kept: list[Vector] = []
    for here, there, first, second in zip(
        square, np.roll(square, -1, 0), distances, np.roll(distances, -1), strict=True
    ):
        if first > 0:
            kept.append(here)
        if (first > 0) != (second > 0):
            kept.append(here + (there - here) * first / (first - second))
    return np.array(kept)


def box(
    size: Sequence[float], front: Texture, side: Texture, top: Texture | None = None, lift: float = 0.0
) -> list[Quad]:
    """Return the faces of a box (width, height, length) that stands on the ground with its front towards -Z."""
    width, height, length = size
    x, y = width / 2, lift
    right, up, along = np.array([width, 0, 0]), np.array([0, height, 0]), np.array([0, 0, length])
    faces = [
        Quad(np.array([-x, y, -length / 2]), right, up, front, 1.0, one_sided=True),
        Quad(np.array([x, y, length / 2]), -right, up, front, 0.8, one_sided=True),
        Quad(np.array([x, y, -length / 2]), along, up, side, 0.82, one_sided=True),
        Quad(np.array([-x, y, length / 2]), -along, up, side.mirrored(), 0.9, one_sided=True),
    ]
    if top is not None:
        faces.append(Quad(np.array([-x, y + height, -length / 2]), right, along, top, 1.15, one_sided=True))
    return faces
