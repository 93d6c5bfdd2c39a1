"""A drive: frames with exact ground truth, from a seed."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.drive.ground import Ground
from vl4ad_ros.drive.paint import Float, Texture, ramp, soften
from vl4ad_ros.drive.quads import Frame, Quad, Vector
from vl4ad_ros.drive.road import EYE, Camera, camera_pitch
from vl4ad_ros.drive.sky import Forecast, Sky, Weather
from vl4ad_ros.drive.world import AHEAD, BEHIND, Thing, World, build
from vl4ad_ros.io.errors import Vl4adError

NORMAL, ANOMALY, VOID = 0, 1, 255
SPEED = 8.0  # Metres per second.
# An anomaly is judged from this height on, in shares of the picture's height.
_JUDGED = 0.025
_SHADOWS = 90.0  # Beyond, shadows are not drawn, metres.


class DriveFrame(NamedTuple):
    """An RGB image uint8 [H, W, 3] and its label uint8 [H, W]; the edges of anomalies, and far ones, are void."""

    image: NDArray[np.uint8]
    label: NDArray[np.uint8]


class Drive:
    """A drive of some frames, `rate` a second, along a procedural road; all of it follows from the seed."""

    def __init__(self, seed: int, frames: int, width: int = 960, height: int = 540, rate: float = 10.0) -> None:
        """Check the numbers; the world is built with the first frame."""
        if frames < 1 or not 64 <= width <= 8192 or not 64 <= height <= 8192 or not 0 < rate <= 1000 or seed < 0:
            raise Vl4adError(
                "A drive needs a seed >= 0, at least 1 frame, 64x64 to 8192x8192 pixels and a rate in (0, 1000]; "
                f"got seed {seed}, {frames} frames, {width}x{height}, rate {rate}."
            )
        self.seed, self.frames, self.width, self.height, self.rate = seed, frames, width, height, rate
        self._streams = np.random.default_rng(seed).spawn(6)
        self._forecast, wobble, grain = Forecast(self._streams[3]), *self._streams[4:]
        self._sun = (float(grain.uniform(-1.3, 1.3)), float(grain.uniform(0.1, 0.7)))
        self._phases = wobble.uniform(0, 6.28, 4)
        self._grain: Float = soften(grain.standard_normal((height + 64, width + 64), dtype=np.float32), 0.5)
        disc = np.hypot(*np.mgrid[-1:1:65j, -1:1:65j])
        black = np.zeros((65, 65, 3), dtype=np.float32)
        self._blot = Texture(black, ramp(np.asarray(1 - disc, dtype=np.float32), 0.0, 0.6))

    @cached_property
    def world(self) -> World:
        """The road and everything along it, built when the first frame is drawn."""
        return build(self._streams[0], self.frames / self.rate * SPEED)

    @cached_property
    def _backdrop(self) -> tuple[Sky, Ground]:
        return Sky(self._streams[1]), Ground(self._streams[2], self.world.road)

    @property
    def weathers(self) -> list[str]:
        """The names of the weathers that the drive goes through."""
        return list(self._forecast.names)

    def camera(self, index: int) -> Camera:
        """Return the camera of a frame: on its way along the road, with the car's small movements."""
        seconds = index / self.rate
        z, road, p = seconds * SPEED, self.world.road, self._phases
        x = float(road.centre(np.array([z], dtype=np.float32))[0]) + road.driven(z)
        drift = np.arctan((road.driven(z + 3) - road.driven(z - 3)) / 6)
        pitch = camera_pitch(self.width, self.height)
        pitch += 0.004 * np.sin(5.1 * seconds + p[0]) + 0.0022 * np.sin(11.3 * seconds + p[1])
        roll = 0.006 * np.sin(2.3 * seconds + p[2])
        eye = EYE + 0.015 * np.sin(5.1 * seconds + p[3])
        yaw = road.heading(z + 4) + 0.8 * float(drift)
        return Camera(self.width, self.height, (x, float(eye), z), float(yaw), float(pitch), float(roll))

    def frame(self, index: int) -> DriveFrame:
        """Draw a frame; frames can be drawn in any order."""
        seconds, camera = index / self.rate, self.camera(index)
        weather = self._forecast.at(index / max(self.frames - 1, 1))
        frame = Frame(camera)
        sky, ground = self._backdrop
        sky.paint(frame.rgb, camera, weather, seconds)
        ground.paint(frame.rgb, camera, weather)
        placed = [(thing, *self._place(thing, seconds, camera)) for thing in self.world.things]
        depths = [camera.depth(position) for _, position, _ in placed]
        order = [i for i in np.argsort(depths)[::-1] if _matters(self.world.things[i], depths[i], camera)]
        for i in order:
            if depths[i] < _SHADOWS:
                self._shade(frame, weather, *placed[i])
        for i in order:
            thing, position, turn = placed[i]
            small = camera.focal * thing.height / max(depths[i], 0.1) < _JUDGED * self.height
            faces = [quad.moved(position, turn) for quad in thing.quads]
            for face in sorted(faces, key=lambda face: -camera.depth(face.origin + (face.right + face.up) / 2)):
                frame.draw(face, weather, thing.anomaly, small)
        return DriveFrame(self._develop(frame.rgb, weather, index), _label(frame.truth))

    def _place(self, thing: Thing, seconds: float, camera: Camera) -> tuple[Vector, float]:
        """Return where a thing is and how it is turned."""
        road, z = self.world.road, thing.z + thing.speed * seconds
        x = thing.x + thing.stroll * np.sin(1.1 * seconds + thing.z)
        if thing.leads:
            z = camera.position[2] + thing.z + 3.0 * np.sin(seconds / 2.7 + thing.z)
            x = road.driven(z)
        centre = float(road.centre(np.array([z], dtype=np.float32))[0])
        return np.array([centre + x, 0.0, z]), camera.yaw if thing.flat else road.heading(z)

    def _shade(self, frame: Frame, weather: Weather, thing: Thing, position: Vector, turn: float) -> None:
        """Draw the shadows of a thing on the ground."""
        if weather["sun"] > 0.05 and thing.flat and thing.kind != "grass":
            (quad,) = thing.quads
            up = quad.up[1] * np.array([self._sun[0], 0.0, self._sun[1]])
            frame.draw(replace(quad, up=up, light=float(weather["sun"]) / 2, shadow=True).moved(position), weather)
        width, length = thing.footprint
        if width:
            right, ahead = np.array([1.24 * width, 0.0, 0.0]), np.array([0.0, 0.0, 1.24 * length])
            strength = 0.75 - 0.3 * float(weather["sun"])
            blot = Quad(-(right + ahead) / 2, right, ahead, self._blot, strength, shadow=True)
            frame.draw(blot.moved(position, turn), weather)

    def _develop(self, rgb: Float, weather: Weather, index: int) -> NDArray[np.uint8]:
        """Turn light into a picture: rain, lens, noise of the sensor."""
        random = np.random.default_rng((self.seed, index))
        if weather["rain"] > 0.05:
            streaks = np.zeros(rgb.shape[:2], dtype=np.uint8)
            drops = round(500 * float(weather["rain"]))
            for x, y, size in random.uniform((0, 0, 0.3), (self.width, self.height, 1), (drops, 3)):
                end = (round(x + 3 * size), round(y + 34 * size * self.height / 540))
                cv2.line(streaks, (round(x), round(y)), end, 70, 1, cv2.LINE_AA)
            rain = soften(np.asarray(streaks / 255, dtype=np.float32), 0.7)[..., None]
            rgb = np.asarray(rgb * (1 - rain) + weather["horizon"] * rain, dtype=np.float32)
        rows, columns = np.linspace(-1, 1, self.height) ** 2, np.linspace(-1, 1, self.width) ** 2
        vignette = (1.02 - 0.13 * (rows[:, None] + columns)).astype(np.float32)
        developed = np.clip(soften(rgb * vignette[..., None], 0.55 * self.height / 540 + 0.05), 0, 1)
        developed += 0.10 * (developed - 0.5) * (1 - 4 * (developed - 0.5) ** 2)  # A little contrast.
        top, left = random.integers(0, 64, 2)
        noise = self._grain[top : top + self.height, left : left + self.width] * np.float32(weather["grain"] * 1.6)
        return np.asarray(np.clip(developed * 255 + noise[..., None] + 0.5, 0, 255), dtype=np.uint8)


def _matters(thing: Thing, depth: float, camera: Camera) -> bool:
    """Return whether a thing may be seen: it is not behind the camera, too far or too small."""
    smallest = 7 if thing.kind == "grass" else 2
    return (0.3 if thing.flat else -BEHIND) < depth < AHEAD and camera.focal * thing.height > smallest * depth


def _label(truth: Float) -> NDArray[np.uint8]:
    anomaly, small = truth[..., 0], truth[..., 1]
    label = np.where(anomaly > 0.5, ANOMALY, NORMAL).astype(np.uint8)
    label[((anomaly > 0.1) & (anomaly < 0.9)) | (small > 0.1)] = VOID
    return label
