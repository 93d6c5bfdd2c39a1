"""Objects over a drive: components of consecutive frames linked to one object, and when it was first detected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# Our choice: an object counts as detected in the first frame in which this share of its pixels is in the mask.
DETECTED_RECALL = 0.25
# Two boxes, grown by this share of their size, belong together when they overlap by at least this IoU.
GROWTH = 0.5
LINK_IOU = 0.1
# An object may be hidden or too small for this long, seconds.
PATIENCE_S = 0.5

Box = tuple[float, float, float, float]


@dataclass
class ObjectTrack:
    """One object over a drive.

    Attributes:
        first_seen_s: Seconds since its drive's first frame at which the labels show it first.
        last_seen_s: And last.
        frames: Frames that show it.
        first_size: Its pixels in the first of them.
        drive: Name of its drive.
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
    box: Box = field(default=(0.0, 0.0, 0.0, 0.0), repr=False)

    def see(self, time_s: float, item: dict[str, Any], box: Box) -> None:
        """Take in one more frame of the object."""
        self.box, self.last_seen_s = box, time_s
        self.frames += 1
        self.largest_size = max(self.largest_size, item["size"])
        self.best_recall = max(self.best_recall, item["recall"])
        if self.first_detected_s is None and item["recall"] >= DETECTED_RECALL:
            self.first_detected_s, self.detected_size = time_s, item["size"]
            self.delay_s = time_s - self.first_seen_s

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain data, without the last box."""
        return {key: value for key, value in asdict(self).items() if key != "box"}


def follow_objects(records: Sequence[dict[str, Any]]) -> list[ObjectTrack]:
    """Link the labelled components of the drives' frames to objects, by overlap of their boxes from frame to frame.

    Args:
        records: Per-frame records with stamps, in any order; those without stamps or labels are left out.

    Returns:
        The objects, drive by drive, in the order of their appearance.
    """
    usable = [r for r in records if r.get("stamp_ns") is not None and "objects" in r]
    drives = sorted({r.get("drive", "") for r in usable})
    return [track for name in drives for track in _follow([r for r in usable if r.get("drive", "") == name])]


def _follow(usable: list[dict[str, Any]]) -> list[ObjectTrack]:
    """Link the objects of one drive."""
    usable.sort(key=lambda r: r["stamp_ns"])
    tracks: list[ObjectTrack] = []
    for record in usable:
        time_s = (record["stamp_ns"] - usable[0]["stamp_ns"]) / 1e9
        alive = [t for t in tracks if time_s - t.last_seen_s <= PATIENCE_S]
        boxes = [_grow(item["box"]) for item in record["objects"]]
        pairs = sorted(
            ((_iou(t.box, b), i, j) for i, t in enumerate(alive) for j, b in enumerate(boxes)), key=lambda p: -p[0]
        )
        taken_tracks: set[int] = set()
        taken_boxes: set[int] = set()
        for overlap, i, j in pairs:
            if overlap >= LINK_IOU and i not in taken_tracks and j not in taken_boxes:
                taken_tracks.add(i)
                taken_boxes.add(j)
                alive[i].see(time_s, record["objects"][j], boxes[j])
        for j, item in enumerate(record["objects"]):
            if j not in taken_boxes:
                tracks.append(ObjectTrack(time_s, time_s, item["size"], record.get("drive", "")))
                tracks[-1].see(time_s, item, boxes[j])
    return tracks


def _grow(box: Sequence[float]) -> Box:
    x0, y0, x1, y1 = box
    dx, dy = (x1 - x0) * GROWTH / 2, (y1 - y0) * GROWTH / 2
    return x0 - dx, y0 - dy, x1 + dx, y1 + dy


def _iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
