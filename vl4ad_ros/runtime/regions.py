"""Regions for planners: the connected components of an anomaly mask. Knows no ROS type."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import cv2
import numpy as np
from numpy.typing import NDArray

# A mask of noise has thousands of components; a planner wants the large ones.
MAX_REGIONS = 256
# Columns whose lowest pixel is within this share of the region's height of the lowest of all touch the ground.
CONTACT_SHARE = 0.05
MAX_CONTACTS = 9


@dataclass(frozen=True)
class Region:
    """One connected component, in pixels of the published mask."""

    x: int  # first column of the box
    y: int  # first row of the box
    width: int  # columns of the box
    height: int  # rows of the box
    area: int  # pixels of the component
    mean: float  # mean uncertainty over the component, [0, 1]
    max: float  # largest uncertainty in it, [0, 1]
    # Column and row of the pixels with which it touches the ground, from left to right.
    contacts: tuple[tuple[int, int], ...] = field(default=(), compare=False, repr=False)
    # Number of the track that it belongs to, from 1, never used again; pieces of one thing share it. 0: none.
    id: int = 0
    frames: int = 0  # frames in which the track was seen, this one included
    seconds: float = 0.0  # since the track was first seen
    confirmed: bool = False  # whether the track was seen in enough frames of a window (`TrackSettings`)

    def as_dict(self) -> dict[str, int | float]:
        """Return the fields but the contacts as plain data for JSON."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "contacts"}


def find_regions(mask: NDArray[np.uint8], uncertainty: NDArray[np.float32], min_area: int = 0) -> tuple[Region, ...]:
    """Find the 8-connected components of a mask, of `min_area` pixels or more, the `MAX_REGIONS` largest first."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = stats[1:count, cv2.CC_STAT_AREA]
    order = np.argsort(-areas, kind="stable")[:MAX_REGIONS] + 1
    regions = []
    for label in order:
        x, y, width, height, area = (int(v) for v in stats[label])
        if area < min_area:
            break
        box = np.s_[y : y + height, x : x + width]
        inside = labels[box] == label
        scores = uncertainty[box][inside]
        mean, largest = float(scores.mean(dtype=np.float64)), float(scores.max())
        contacts = tuple((x + column, y + row) for column, row in _contacts(inside))
        regions.append(Region(x, y, width, height, area, mean, largest, contacts))
    return tuple(regions)


def _contacts(inside: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return where a component bool [h, w], which reaches all sides of its box, touches the ground: column and row."""
    height = len(inside)
    lowest = height - 1 - inside[::-1].argmax(axis=0)
    (columns,) = np.nonzero(lowest >= height - 1 - max(1, round(CONTACT_SHARE * height)))
    chosen = columns[np.linspace(0, len(columns) - 1, min(len(columns), MAX_CONTACTS)).round().astype(int)]
    return [(int(column), int(lowest[column])) for column in chosen]
