"""Recall of the labelled objects by their size and by their distance from the camera's bottom edge."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

# Share of the frame's pixels: from a distant tyre to a cow in front of the bonnet.
SIZE_EDGES: tuple[float, ...] = (0.0, 0.0005, 0.002, 0.01, 0.05, 1.0)
# Share of the frame's height between the object's lower edge and the bottom edge; farther away is higher up.
DISTANCE_EDGES: tuple[float, ...] = (0.0, 0.15, 0.3, 0.45, 0.6, 1.0)
FOUND_SIOU = 0.25


def region_recall(records: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Group all labelled objects and average over each group.

    Args:
        records: Per-frame records; those without labels are left out.

    Returns:
        `by_size` and `by_distance`: for each group its edges (`from`, `to`), number of `objects`, mean `recall` (share
        of an object's pixels in the mask), mean `siou`, and `found` (share with an adjusted IoU >= 0.25); None where a
        group is empty.
    """
    rows = [
        (
            item["size"] / (record["height"] * record["width"]),
            (record["height"] - item["box"][3]) / record["height"],
            item["recall"],
            item["siou"],
        )
        for record in records
        for item in record.get("objects", [])
    ]
    table = np.array(rows, np.float64).reshape(-1, 4)
    return {"by_size": _groups(table, 0, SIZE_EDGES), "by_distance": _groups(table, 1, DISTANCE_EDGES)}


def _groups(table: np.ndarray[Any, np.dtype[np.float64]], column: int, edges: Sequence[float]) -> list[dict[str, Any]]:
    place = np.searchsorted(edges[1:-1], table[:, column], side="right")
    groups = []
    for number, (low, high) in enumerate(pairwise(edges)):
        chosen = table[place == number]
        empty = not len(chosen)
        groups.append(
            {
                "from": low,
                "to": high,
                "objects": len(chosen),
                "recall": None if empty else float(chosen[:, 2].mean()),
                "siou": None if empty else float(chosen[:, 3].mean()),
                "found": None if empty else float((chosen[:, 3] >= FOUND_SIOU).mean()),
            }
        )
    return groups
