"""The road's course, its cross-section, and the way that the camera takes along it.

Cross-section, metres to the right of the centre line: one oncoming lane (-3.5..0) and two own lanes (0..3.5..7).
"""

from __future__ import annotations

import numpy as np

from vl4ad_ros.drive.noise import Float, Random

LEFT_EDGE = -3.9
RIGHT_EDGE = 7.4
BAY = 2.4  # Width of the parking bay on the right, in town.
LANES = (1.75, 5.25)
SPACING = 20.0  # Between places where an anomaly lies and the camera passes it in the other lane.


class Road:
    """A gently winding road through town and country."""

    def __init__(self, random: Random, length: float) -> None:
        self._bends = [(float(random.uniform(2.0, 4.0)), float(random.uniform(38, 60)), float(random.uniform(0, 6.28)))]
        self._bends.append(
            (float(random.uniform(5.0, 9.0)), float(random.uniform(95, 140)), float(random.uniform(0, 6.28)))
        )
        start = float(random.uniform(25, 60))
        self._changes: list[float] = []
        while start < length + 400:
            self._changes.append(start)
            start += float(random.uniform(60, 100))
        self._town_first = bool(random.random() < 0.5)
        places = int(length / SPACING) + 11
        self._lane = int(random.integers(2))
        self.places = np.arange(1, places) * SPACING + random.uniform(-2, 2, places - 1) + 4

    def centre(self, z: Float) -> Float:
        """Return X of the centre line."""
        return np.asarray(sum(a * np.sin(z / b + p) - a * np.sin(p) for a, b, p in self._bends), dtype=np.float32)

    def heading(self, z: float) -> float:
        """Return the direction of the road, radians to the right of Z."""
        return float(np.arctan(sum(a / b * np.cos(z / b + p) for a, b, p in self._bends)))

    def urban(self, z: Float) -> Float:
        """Return 1 in town, 0 in the country, with a short transition."""
        value = np.full(np.shape(z), float(self._town_first), dtype=np.float32)
        sign = -1.0 if self._town_first else 1.0
        for change in self._changes:
            value = value + np.float32(sign) * np.clip((z - change) / 4 + 0.5, 0, 1).astype(np.float32)
            sign = -sign
        return np.asarray(value, dtype=np.float32)

    def in_town(self, z: float) -> bool:
        """Return whether a place is in town."""
        return bool(self.urban(np.full(1, z, dtype=np.float32))[0] > 0.5)

    def anomaly_lane(self, index: int) -> float:
        """Return the lateral position of the lane in which the anomaly of a place lies."""
        return LANES[(self._lane + index) % 2]

    def driven(self, z: float) -> float:
        """Return the lateral position of the traffic at z: it passes each anomaly in the other lane."""
        index = int(np.searchsorted(self.places, z))
        after = LANES[(self._lane + index + 1) % 2]
        if index == 0:
            return after
        before = LANES[(self._lane + index) % 2]
        gap = self.places[index] - self.places[index - 1]
        t = float(np.clip(((z - self.places[index - 1]) / gap - 0.22) / 0.56, 0, 1))
        return float(before + (after - before) * t * t * (3 - 2 * t))
