"""Light and weather, which change along the drive."""

from __future__ import annotations

import numpy as np

from vl4ad_ros.drive.catalogue import catalogue
from vl4ad_ros.drive.paint import Float, Random, ramp

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
