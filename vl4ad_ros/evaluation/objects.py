"""Labelled objects: recall by size and distance, and objects followed over a drive until they are first detected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Our choice: an object counts as detected in the first frame in which this share of its pixels is in the mask.
DETECTED_RECALL = 0.25
# Two boxes, grown by this share of their size and by this share of the frame's width on each side, belong together
# when they overlap by at least this IoU.
GROWTH = 0.5
MARGIN = 0.01
LINK_IOU = 0.1
# An object may be hidden or too small for this long, seconds.
PATIENCE_S = 1.0
# What is seen in fewer frames is a glimpse (a piece behind a lamp post), not an object to be judged.
MIN_FRAMES = 3

# Share of the frame's pixels: from a distant tyre to a cow in front of the bonnet.
SIZE_EDGES: tuple[float, ...] = (0.0, 0.0005, 0.002, 0.01, 0.05, 1.0)
# Share of the frame's height between the object's lower edge and the bottom edge; farther away is higher up.
DISTANCE_EDGES: tuple[float, ...] = (0.0, 0.15, 0.3, 0.45, 0.6, 1.0)
FOUND_SIOU = 0.25

Box = NDArray[np.float64]  # x0, y0, x1, y1


@dataclass
class ObjectTrack:
    """One object over a drive; times are seconds since the drive's first frame.

    Attributes:
        first_seen_s: When the labels show it first.
        last_seen_s: And last.
        first_size: Its pixels in the first frame that shows it.
        drive: Name of its drive.
        frames: Frames that show it.
        largest_size: Its pixels at most.
        first_detected_s: When it was detected first; None if it never was.
        detected_size: Its pixels at that moment.
        best_recall: Largest share of its pixels in the mask of a frame.
        delay_s: From first seen to first detected; None if it never was.
    """

    first_seen_s: float
    last_seen_s: float
    first_size: int
    drive: str = ""
    frames: int = 0
    largest_size: int = 0
    first_detected_s: float | None = None
    detected_size: int | None = None
    best_recall: float = 0.0
    delay_s: float | None = None

    def __post_init__(self) -> None:
        self._box: Box = np.zeros(4)
        self.speed: NDArray[np.float64] | None = None

    def expected(self, time_s: float, drift: NDArray[np.float64]) -> Box:
        """Return where its box should be now: moved on as it moved last (a new one: as the others do)."""
        moved = (drift if self.speed is None else self.speed) * (time_s - self.last_seen_s)
        return self._box + np.tile(moved, 2)

    def see(self, time_s: float, item: dict[str, Any]) -> None:
        """Take in one more frame of the object."""
        box, passed = np.array(item["box"], float), time_s - self.last_seen_s
        if self.frames and passed > 0:
            self.speed = (box[:2] + box[2:] - self._box[:2] - self._box[2:]) / 2 / passed
        self._box, self.last_seen_s = box, time_s
        self.frames += 1
        self.largest_size = max(self.largest_size, item["size"])
        self.best_recall = max(self.best_recall, item["recall"])
        if self.first_detected_s is None and item["recall"] >= DETECTED_RECALL:
            self.first_detected_s, self.detected_size = time_s, item["size"]
            self.delay_s = time_s - self.first_seen_s


def follow_objects(records: Sequence[dict[str, Any]]) -> list[ObjectTrack]:
    """Link the labelled components of the drives' frames to objects, by overlap of their boxes.

    Args:
        records: Per-frame records with stamps, in any order; those without stamps or labels are left out.

    Returns:
        The objects, drive by drive, in the order of their appearance.
    """
    drives: dict[str, list[dict[str, Any]]] = {}
    for record in sorted((r for r in records if r.get("stamp_ns") is not None), key=lambda r: r["stamp_ns"]):
        if "objects" in record:
            drives.setdefault(record.get("drive", ""), []).append(record)
    return [track for _, drive in sorted(drives.items()) for track in _follow(drive)]


def _follow(usable: list[dict[str, Any]]) -> list[ObjectTrack]:
    """Link the objects of one drive."""
    tracks: list[ObjectTrack] = []
    for record in usable:
        time_s = (record["stamp_ns"] - usable[0]["stamp_ns"]) / 1e9
        alive = [t for t in tracks if time_s - t.last_seen_s <= PATIENCE_S]
        items, margin = record["objects"], MARGIN * record["width"]
        # The camera's turning moves everything alike.
        moving = [t.speed for t in alive if t.speed is not None]
        drift = np.median(moving, axis=0) if moving else np.zeros(2)
        expected = [_grow(t.expected(time_s, drift), margin) for t in alive]
        wide = [_grow(np.array(item["box"], float), margin) for item in items]
        overlap = np.array([[_iou(e, b) for b in wide] for e in expected]).reshape(len(alive), len(items))
        new = dict(enumerate(items))
        while overlap.size and overlap.max() >= LINK_IOU:
            row, column = (int(place) for place in np.unravel_index(int(overlap.argmax()), overlap.shape))
            alive[row].see(time_s, new.pop(column))
            overlap[row], overlap[:, column] = 0, 0
        for item in new.values():
            tracks.append(ObjectTrack(time_s, time_s, item["size"], record.get("drive", "")))
            tracks[-1].see(time_s, item)
    return tracks


def _grow(box: Box, margin: float) -> Box:
    beyond = (box[2:] - box[:2]) * GROWTH / 2 + margin
    return np.concatenate([box[:2] - beyond, box[2:] + beyond])


def _iou(a: Box, b: Box) -> float:
    shared = float(np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)))
    return shared / float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


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


def _groups(table: NDArray[np.float64], column: int, edges: Sequence[float]) -> list[dict[str, Any]]:
    place = np.searchsorted(edges[1:-1], table[:, column], side="right")
    groups = []
    for number, (low, high) in enumerate(pairwise(edges)):
        chosen = table[place == number]
        recall, siou = chosen[:, 2], chosen[:, 3]
        figures = {"recall": recall, "siou": siou, "found": siou >= FOUND_SIOU}
        means = {name: float(values.mean()) if len(chosen) else None for name, values in figures.items()}
        groups.append({"from": low, "to": high, "objects": len(chosen), **means})
    return groups
