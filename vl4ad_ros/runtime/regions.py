"""Regions for planners: the connected components of an anomaly mask. Knows no ROS type."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# A mask of noise has thousands of components; a planner wants the large ones.
MAX_REGIONS = 256


@dataclass(frozen=True)
class Region:
    """One connected component, in pixels of the published mask.

    Attributes:
        x: First column of the box.
        y: First row of the box.
        width: Columns of the box.
        height: Rows of the box.
        area: Pixels of the component.
        mean: Mean uncertainty over the component, [0, 1].
        max: Largest uncertainty in it, [0, 1].
    """

    x: int
    y: int
    width: int
    height: int
    area: int
    mean: float
    max: float

    def as_dict(self) -> dict[str, int | float]:
        """Return the fields as plain data for JSON."""
        return asdict(self)


def find_regions(mask: NDArray[np.uint8], uncertainty: NDArray[np.float32], min_area: int = 0) -> tuple[Region, ...]:
    """Find the 8-connected components of a mask, the largest first, at most `MAX_REGIONS`.

    Args:
        mask: uint8 [H, W], not 0 = anomaly.
        uncertainty: float32 [H, W].
        min_area: Smaller components (pixels) are left out.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = stats[1:count, cv2.CC_STAT_AREA]
    order = np.argsort(-areas, kind="stable")[:MAX_REGIONS] + 1
    regions = []
    for label in order:
        x, y, width, height, area = (int(v) for v in stats[label])
        if area < min_area:
            break
        box = np.s_[y : y + height, x : x + width]
        scores = uncertainty[box][labels[box] == label]
        regions.append(Region(x, y, width, height, area, float(scores.mean(dtype=np.float64)), float(scores.max())))
    return tuple(regions)
