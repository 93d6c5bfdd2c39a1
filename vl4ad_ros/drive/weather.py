"""Light and weather, which change along the drive."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from vl4ad_ros.drive.noise import Float, Random

Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Weather:
    """Light and weather at one moment.

    Attributes:
        sun: Strength of the direct light, 0 (no shadows) to 1.
        light: Colour that things are lit with.
        zenith: Colour of the sky above.
        horizon: Colour of the sky at the horizon, and of the haze.
        cover: Share of the sky under clouds.
        cloud: Colour of the clouds' bright sides.
        fog: Extinction of the haze, per metre.
        wet: Wetness of the road, 0 to 1.
        rain: Falling rain, 0 to 1.
        grain: Noise of the camera, standard deviation in grey levels.
    """

    sun: float
    light: Rgb
    zenith: Rgb
    horizon: Rgb
    cover: float
    cloud: Rgb
    fog: float
    wet: float
    rain: float
    grain: float

    def towards(self, other: Weather, share: float) -> Weather:
        """Return the weather on the way to another one."""
        mixed: dict[str, Any] = {}
        for field in fields(self):
            first, second = np.asarray(getattr(self, field.name)), np.asarray(getattr(other, field.name))
            value = first * (1 - share) + second * share
            mixed[field.name] = tuple(value.tolist()) if value.ndim else float(value)
        return Weather(**mixed)


WEATHERS: dict[str, Weather] = {
    "clear": Weather(
        sun=1.0, light=(1.06, 1.03, 0.97), zenith=(0.26, 0.43, 0.70), horizon=(0.72, 0.80, 0.87), cover=0.35,
        cloud=(0.97, 0.97, 0.98), fog=0.0016, wet=0.0, rain=0.0, grain=2.0,
    ),
    "overcast": Weather(
        sun=0.12, light=(0.88, 0.90, 0.93), zenith=(0.62, 0.66, 0.71), horizon=(0.83, 0.85, 0.87), cover=0.95,
        cloud=(0.88, 0.89, 0.91), fog=0.004, wet=0.0, rain=0.0, grain=2.5,
    ),
    "hazy": Weather(
        sun=0.55, light=(1.0, 0.97, 0.90), zenith=(0.52, 0.62, 0.74), horizon=(0.87, 0.86, 0.82), cover=0.5,
        cloud=(0.95, 0.94, 0.91), fog=0.0085, wet=0.0, rain=0.0, grain=2.0,
    ),
    "evening": Weather(
        sun=0.7, light=(1.02, 0.86, 0.68), zenith=(0.32, 0.40, 0.58), horizon=(0.92, 0.74, 0.54), cover=0.45,
        cloud=(0.98, 0.80, 0.64), fog=0.004, wet=0.0, rain=0.0, grain=3.0,
    ),
    "rain": Weather(
        sun=0.0, light=(0.70, 0.73, 0.77), zenith=(0.48, 0.52, 0.57), horizon=(0.68, 0.71, 0.74), cover=1.0,
        cloud=(0.70, 0.72, 0.75), fog=0.010, wet=0.9, rain=0.8, grain=3.0,
    ),
    "dusk": Weather(
        sun=0.05, light=(0.60, 0.60, 0.68), zenith=(0.26, 0.31, 0.46), horizon=(0.66, 0.60, 0.60), cover=0.7,
        cloud=(0.56, 0.54, 0.58), fog=0.005, wet=0.2, rain=0.0, grain=3.5,
    ),
}  # fmt: skip


class Forecast:
    """The weather of a drive: four of `WEATHERS`, one after the other."""

    def __init__(self, random: Random) -> None:
        others = [name for name in WEATHERS if name != "clear"]
        self.names: list[str] = ["clear", *random.permutation(others)[:3].tolist()]

    def at(self, share: float) -> Weather:
        """Return the weather after a share (0 to 1) of the drive."""
        position = min(max(share, 0.0), 1.0) * (len(self.names) - 1)
        index = min(int(position), len(self.names) - 2)
        # Most of the change happens in the middle of each part.
        t = float(np.clip((position - index - 0.25) / 0.5, 0, 1))
        return WEATHERS[self.names[index]].towards(WEATHERS[self.names[index + 1]], t * t * (3 - 2 * t))


def colour(value: Rgb) -> Float:
    """Return a colour as an array."""
    return np.asarray(value, dtype=np.float32)
