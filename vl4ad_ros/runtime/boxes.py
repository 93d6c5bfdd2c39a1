"""Boxes on the image plane: growing them, how they overlap, and which belong together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
"""[N, 4]: x0, y0, x1, y1 in pixels, the last two exclusive."""


def grow(boxes: Sequence[Any] | Boxes, share: float, margin: float) -> Boxes:
    """Return boxes, grown on each side by half a share of their size and a margin in pixels."""
    table = np.array(boxes, np.float64).reshape(-1, 4)
    beyond = (table[:, 2:] - table[:, :2]) * share / 2 + margin
    return np.concatenate([table[:, :2] - beyond, table[:, 2:] + beyond], axis=1)


def overlaps(a: Boxes, b: Boxes) -> tuple[Boxes, Boxes]:
    """Return the IoU of each pair [A, B], and the share of each `b` that lies in each `a`."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    of_a, of_b = (a[:, 2:] - a[:, :2]).prod(axis=1)[:, None], (b[:, 2:] - b[:, :2]).prod(axis=1)[None]
    return shared / np.maximum(of_a + of_b - shared, 1e-9), shared / np.maximum(of_b, 1e-9)


def best_pairs(iou: Boxes, min_iou: float) -> Iterator[tuple[int, int]]:
    """Yield row and column of the pairs [A, B] with at least an IoU > 0, the best first; each row and column once."""
    left = iou.copy()
    while left.size and left.max() >= min_iou:
        row, column = (int(place) for place in np.unravel_index(int(left.argmax()), left.shape))
        left[row], left[:, column] = 0, 0
        yield row, column
