"""The component metrics once more, one component after the other: slow and plain, to hold the fast form against."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.component_metrics import Track

Mask = NDArray[np.bool_]


def components(mask: Mask) -> list[Mask]:
    """Return each 8-connected component as a mask."""
    count, numbers = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return [numbers == number for number in range(1, count)]


def loop_metrics(mask: Mask, labels: NDArray[np.uint8], track: Track) -> tuple[list[float], list[float]]:
    """Return the adjusted IoU of each object and the precision of each predicted component."""
    valid = labels != 255
    objects = []
    for item in components(labels == 1):
        if item.sum() >= track.min_instance:
            objects.append(item)
        else:
            valid &= ~item
    segments = [s for s in components(mask & (labels != 255)) if s.sum() >= track.min_segment]
    segments = [s & valid for s in segments if (s & valid).any()]
    everything = np.any(objects, axis=0) if objects else np.zeros(mask.shape, bool)
    sious = []
    for item in objects:
        touching = [s for s in segments if (s & item).any()]
        predicted = np.any(touching, axis=0) if touching else np.zeros(mask.shape, bool)
        # The union without what lies on the other objects.
        union = (predicted | item) & ~(everything & ~item)
        sious.append(float((predicted & item).sum() / union.sum()))
    return sious, [float((s & everything).sum() / s.sum()) for s in segments]
