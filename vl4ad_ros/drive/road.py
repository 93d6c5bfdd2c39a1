"""The road's course, its cross-section, and the way that the camera takes along it.

Cross-section, metres to the right of the centre line: one oncoming lane (-3.5..0) and two own lanes (0..3.5..7).
"""

from __future__ import annotations

import numpy as np

from vl4ad_ros.drive.paint import Float, Random

LEFT_EDGE = -3.9
RIGHT_EDGE = 7.4
BAY = 2.4  # Width of the parking bay on the right, in town.
LANES = (1.75, 5.25)
# Anomalies lie at places this far apart, metres; after some of them comes a stretch with none in sight.
SPACING, GROUP, FREE_STRETCH = 20.0, 8, 120.0


class Road:
    """A gently winding road through town and country."""

    def __init__(self, random: Random, length: float) -> None:
        self._bends = random.uniform([[2, 38, 0], [5, 95, 0]], [[4, 60, 6.28], [9, 140, 6.28]]).tolist()
        steps = random.uniform(60, 100, int(length / 60) + 8)
        self._changes = (random.uniform(25, 60) + np.cumsum(steps) - steps[0]).tolist()
        self._town_first = bool(random.random() < 0.5)
        self._lane = int(random.integers(2))
        index = np.arange(int(length / SPACING) + 10)
        self.places = (index + 1.2) * SPACING + index // GROUP * FREE_STRETCH + random.uniform(-2, 2, len(index))

    def centre(self, z: Float) -> Float:
        """Return X of the centre line."""
        return np.asarray(sum(a * np.sin(z / b + p) - a * np.sin(p) for a, b, p in self._bends), dtype=np.float32)

    def heading(self, z: float) -> float:
        """Return the direction of the road, radians to the right of Z."""
        return float(np.arctan(sum(a / b * np.cos(z / b + p) for a, b, p in self._bends)))

    def urban(self, z: Float) -> Float:
        """Return 1 in town, 0 in the country, with a short transition."""
        value = np.full(np.shape(z), float(self._town_first), dtype=np.float32)
        for index, change in enumerate(self._changes):
            sign = -1 if (index % 2 == 0) == self._town_first else 1
            value += sign * np.clip((z - change) / 4 + 0.5, 0, 1).astype(np.float32)
        return value

    def in_town(self, z: float) -> bool:
        """Return whether a place is in town."""
        return bool(self.urban(np.full(1, z, dtype=np.float32))[0] > 0.5)

    def anomaly_lane(self, index: int) -> float:
        """Return the lateral position of the lane in which the anomaly of a place lies."""
        return LANES[(self._lane + index) % 2]

    def driven(self, z: float) -> float:
        """Return the lateral position of the traffic at z: it passes each anomaly in the other lane."""
        index = int(np.searchsorted(self.places, z))
        before, after = self.anomaly_lane(index), self.anomaly_lane(index + 1)
        if index == 0:
            return after
        last, following = self.places[index - 1 : index + 1]
        t = float(np.clip(((z - last) / (following - last) - 0.22) / 0.56, 0, 1))
        return float(before + (after - before) * t * t * (3 - 2 * t))
