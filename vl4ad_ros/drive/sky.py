"""The sky, and the weathers of a drive."""

from __future__ import annotations

import cv2
import numpy as np

from vl4ad_ros.drive.catalogue import catalogue
from vl4ad_ros.drive.paint import Float, Random, clouds, ramp
from vl4ad_ros.drive.road import Camera
from vl4ad_ros.drive.scenery import hills

Weather = dict[str, Float]
"""Numbers and RGB colours by name; `config/drive/things.yaml` says what they mean."""


def weathers() -> dict[str, Weather]:
    """Return the weathers of the catalogue, by name."""
    entries = catalogue()["weather"].items()
    return {name: {key: np.asarray(value, np.float32) for key, value in entry.items()} for name, entry in entries}


class Forecast:
    """The weather of a drive: clear, then three others, one after the other."""

    def __init__(self, random: Random) -> None:
        self._weathers = weathers()
        others = [name for name in self._weathers if name != "clear"]
        self.names: list[str] = ["clear", *random.permutation(others)[:3].tolist()]

    def at(self, share: float) -> Weather:
        """Return the weather after a share (0 to 1) of the drive."""
        position = share * (len(self.names) - 1)
        index = min(int(position), len(self.names) - 2)
        first, second = (self._weathers[name] for name in self.names[index : index + 2])
        # Most of the change happens in the middle of each part.
        t = ramp(np.float32(position - index), 0.25, 0.75)
        return {key: first[key] * (1 - t) + second[key] * t for key in first}


_HILL_ANGLE = 0.10  # Elevation of the panorama's upper edge, radians.


class Sky:
    """The sky of a drive."""

    def __init__(self, random: Random) -> None:
        self._clouds = clouds(random, (1024, 1024), 4, 6, 0.55)
        panorama = hills(random)
        self._hills: Float = np.dstack([panorama.rgb * panorama.alpha[..., None], panorama.alpha])
        self._drift = float(random.uniform(0, 1024))

    def paint(self, rgb: Float, camera: Camera, weather: Weather, seconds: float) -> None:
        """Paint the sky into the rows of a picture above the ground."""
        last = min(int(horizon_row(camera) + 0.05 * camera.height) + 2, camera.height)
        rays = camera.rays()[:last]
        length = np.sqrt((rays * rays).sum(axis=2))
        elevation = np.maximum(rays[..., 1] / length, 0)
        share = np.sqrt(np.clip(elevation / 0.55, 0, 1))[..., None]
        zenith, horizon = weather["zenith"], weather["horizon"]
        sky = horizon * (1 - share) + zenith * share
        # A layer of clouds at one height: they crowd together towards the horizon.
        scale = 190.0 / (elevation + 0.07)
        seen = cv2.remap(
            self._clouds,
            (rays[..., 0] / length * scale + self._drift + 3.0 * seconds) % 1024,
            (rays[..., 2] / length * scale) % 1024,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )
        noise: Float = np.asarray(seen, dtype=np.float32)
        threshold = 0.86 - 0.72 * float(weather["cover"])
        cover = ramp(noise, threshold - 0.10, threshold + 0.25) * np.clip(0.25 + elevation / 0.10, 0, 1)
        shade = 1.0 - 0.28 * np.clip((noise - threshold) / 0.4, 0, 1)
        sky = sky * (1 - cover[..., None]) + weather["cloud"] * (shade * cover)[..., None]
        rgb[:last] = self._behind(sky, rays, elevation, weather)

    def _behind(self, sky: Float, rays: Float, elevation: Float, weather: Weather) -> Float:
        """Return the sky with the hills, faded by the haze, before its lower part."""
        rows, columns = self._hills.shape[:2]
        azimuth = np.arctan2(rays[..., 0], rays[..., 2]) / (2 * np.pi) * columns % columns
        row = (1 - elevation / _HILL_ANGLE) * (rows - 1)
        seen = cv2.remap(self._hills, azimuth.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR)
        clear = float(np.exp(-weather["fog"] * 450))
        seen = seen * min(1.0, 0.15 + 1.2 * clear)
        alpha = seen[..., 3:]
        hazy = seen[..., :3] * weather["light"] * clear + alpha * weather["horizon"] * (1 - clear)
        return np.asarray(sky * (1 - alpha) + hazy, dtype=np.float32)


def horizon_row(camera: Camera) -> float:
    """Return the row of the horizon in the middle of the picture."""
    return float((camera.height - 1) / 2 - camera.focal * np.tan(camera.pitch))
