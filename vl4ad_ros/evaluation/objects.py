"""Labelled objects by size and distance; objects and alarms followed over a drive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.component_metrics import TRACKS, match_components
from vl4ad_ros.io.labels import VOID
from vl4ad_ros.runtime.regions import find_regions
from vl4ad_ros.runtime.tracks import Boxes, best_pairs, grow, overlaps

# Our choice: an object counts as detected in the last of so many frames in a row that have this share of its pixels in
# the mask; an alarm counts from as many frames.
DETECTED_RECALL = 0.25
DETECTED_FRAMES = 3
# Whatever sizes the component metrics take, a drive is judged by what a planner would get.
SIZES = TRACKS["obstacle"]
# The largest alarms of a frame are followed; noise has hundreds.
MAX_ALARMS = 64
# Two boxes, grown by this share of their size and by this share of the frame's width on each side, belong together
# when they overlap by at least this IoU.
GROWTH = 0.5
MARGIN = 0.01
LINK_IOU = 0.1
# An object may be hidden or too small for this long, seconds.
PATIENCE_S = 1.0
# What is seen in fewer frames, or is never as large (pixels), is a glimpse (a piece behind a lamp post): not judged.
MIN_FRAMES, MIN_LARGEST = 3, 100

# Share of the frame's pixels: from a distant tyre to a cow in front of the bonnet.
SIZE_EDGES: tuple[float, ...] = (0.0, 0.0005, 0.002, 0.01, 0.05, 1.0)
# Share of the frame's height between the object's lower edge and the bottom edge; farther away is higher up.
DISTANCE_EDGES: tuple[float, ...] = (0.0, 0.15, 0.3, 0.45, 0.6, 1.0)
FOUND_SIOU = 0.25
# Heights of objects in pixels where the frame is scaled to this width.
SMALL_HEIGHT, LARGE_HEIGHT = 24, 64
REFERENCE_WIDTH = 1280
HEIGHT_EDGES: tuple[float, ...] = (0.0, SMALL_HEIGHT, LARGE_HEIGHT, np.inf)

Item = dict[str, Any]


@dataclass
class ObjectTrack:
    """One object, or one alarm, over a drive; times are seconds since the drive's first frame."""

    first_seen_s: float  # when it is there first
    last_seen_s: float  # and last
    first_size: int  # its pixels in the first frame
    drive: str = ""  # name of its drive
    frames: int = 0  # frames that show it
    largest_size: int = 0  # its pixels at most
    nearest_frame: int = -1  # index of the frame where it has most pixels
    nearest_box: tuple[int, ...] = ()  # its box there: x0, y0, x1, y1, the last two exclusive
    first_detected_s: float | None = None  # when it was detected first; None if it never was
    detected_size: int | None = None  # its pixels at that moment
    detected_frame: int | None = None  # index of that frame
    detected_box: tuple[int, ...] | None = None  # its box there
    best_recall: float = 0.0  # largest share of its pixels in the mask of a frame
    delay_s: float | None = None  # from first seen to first detected; None if it never was
    # When confirmed tracks first covered as much of it as a detection needs, and its distance by the ground plane.
    confirmed_s: float | None = None
    confirmed_distance_m: float | None = None

    def __post_init__(self) -> None:
        self._box: Boxes = np.zeros(4)
        self.speed: NDArray[np.float64] | None = None
        self._in_a_row, self._last_hit = 0, -1

    @property
    def is_glimpse(self) -> bool:
        """Whether too little was seen of it to judge whether it is detected."""
        return self.frames < MIN_FRAMES or self.largest_size < MIN_LARGEST

    def expected(self, time_s: float, drift: NDArray[np.float64]) -> Boxes:
        """Return where its box should be now: moved on as it moved last (a new one: as the others do)."""
        moved = (drift if self.speed is None else self.speed) * (time_s - self.last_seen_s)
        return self._box + np.tile(moved, 2)

    def see(self, time_s: float, place: int, frame: int, item: Item) -> None:
        """Take in one more frame of the object: its time, place in the drive, and index."""
        box, passed = np.array(item["box"], float), time_s - self.last_seen_s
        if self.frames and passed > 0:
            self.speed = (box[:2] + box[2:] - self._box[:2] - self._box[2:]) / 2 / passed
        self._box, self.last_seen_s = box, time_s
        self.frames += 1
        self.best_recall = max(self.best_recall, item["recall"])
        if item["size"] > self.largest_size:
            self.largest_size, self.nearest_frame, self.nearest_box = item["size"], frame, tuple(item["box"])
        if self.confirmed_s is None and item.get("confirmed", 0.0) >= DETECTED_RECALL:
            self.confirmed_s, self.confirmed_distance_m = time_s, item.get("distance_m")
        if item["recall"] >= DETECTED_RECALL:
            self._in_a_row = self._in_a_row + 1 if place == self._last_hit + 1 else 1
            self._last_hit = place
            if self.first_detected_s is None and self._in_a_row == DETECTED_FRAMES:
                self.first_detected_s, self.detected_size = time_s, item["size"]
                self.detected_frame, self.detected_box = frame, tuple(item["box"])
                self.delay_s = time_s - self.first_seen_s


def components_on_drive(
    mask: NDArray[np.uint8], uncertainty: NDArray[np.float32], labels: NDArray[np.uint8] | None
) -> dict[str, list[Item]]:
    """Return what a drive's frame has to follow, from the mask, the map and the labels uint8 [H, W], or None.

    `drive_alarms`: `box`, `size`, `mean`, `max` and `contacts` of the mask's regions, the largest first, and whether it
    touches an object or void (`on_label`); and where there are labels `drive_objects`: `box`, `size` and `recall` of
    the objects, and `parts`, the places of the alarms on each with the shares of its pixels.
    """
    binary = (mask != 0).view(np.uint8)
    regions = find_regions(binary, uncertainty, SIZES.min_segment)[:MAX_ALARMS]
    _, components = cv2.connectedComponents(binary, connectivity=8)
    # A contact is a pixel of its region: it tells the component's number.
    place_of = {int(components[one.contacts[0][::-1]]): place for place, one in enumerate(regions)}
    touching = set() if labels is None else set(np.unique(components[labels != 0]).tolist())
    alarms = []
    for number, one in zip(place_of, regions, strict=True):
        box = [one.x, one.y, one.x + one.width, one.y + one.height]
        about = {"size": one.area, "mean": one.mean, "max": one.max, "contacts": list(map(list, one.contacts))}
        alarms.append({"box": box, **about, "on_label": number in touching})
    if labels is None:
        return {"drive_alarms": alarms}
    found = match_components(binary, labels, SIZES)
    _, truth, stats, _ = cv2.connectedComponentsWithStats((labels == 1).view(np.uint8), connectivity=8)
    kept = np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= SIZES.min_instance) + 1  # in the order of `found`
    objects = []
    rows = zip(kept.tolist(), found.box.tolist(), found.size.tolist(), found.recall.tolist(), strict=True)
    for own, box, size, recall in rows:
        window = np.s_[box[1] : box[3], box[0] : box[2]]
        numbers, counts = np.unique(components[window][truth[window] == own], return_counts=True)
        shares = zip(numbers.tolist(), (counts / size).tolist(), strict=True)
        parts = [[place_of[number], share] for number, share in shares if number in place_of]
        objects.append({"box": box, "size": size, "recall": recall, "parts": parts})
    return {"drive_alarms": alarms, "drive_objects": objects}


def follow_objects(records: Iterable[dict[str, Any]]) -> list[ObjectTrack]:
    """Link the labelled components of frames to objects, by overlap of their boxes, drive by drive as they appear."""
    labelled = [record for record in records if "drive_objects" in record]
    return _follow(labelled, lambda record: record["drive_objects"])


def follow_alarms(records: Iterable[dict[str, Any]]) -> list[ObjectTrack]:
    """Link alarms that touch nothing labelled; return those that last for three frames in a row."""

    def alarms(record: dict[str, Any]) -> list[Item]:
        return [item | {"recall": 1.0} for item in record.get("drive_alarms", ()) if not item["on_label"]]

    return [track for track in _follow(records, alarms) if track.first_detected_s is not None]


def by_drive(records: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the records that have stamps by the drives' names, in the order of their stamps."""
    drives: dict[str, list[dict[str, Any]]] = {}
    timed = [record for record in records if record.get("stamp_ns") is not None]
    for record in sorted(timed, key=lambda record: (record.get("drive", ""), record["stamp_ns"])):
        drives.setdefault(record.get("drive", ""), []).append(record)
    return drives


def _follow(records: Iterable[dict[str, Any]], items: Callable[[dict[str, Any]], list[Item]]) -> list[ObjectTrack]:
    return [track for drive in by_drive(records).values() for track in _follow_drive(drive, items)]


def _follow_drive(records: list[dict[str, Any]], items_of: Callable[[dict[str, Any]], list[Item]]) -> list[ObjectTrack]:
    """Link the items of one drive's frames, in the order of their stamps."""
    tracks: list[ObjectTrack] = []
    for place, record in enumerate(records):
        items, time_s = items_of(record), (record["stamp_ns"] - records[0]["stamp_ns"]) / 1e9
        alive = [t for t in tracks if time_s - t.last_seen_s <= PATIENCE_S]
        # The camera's turning moves everything alike.
        moving = [t.speed for t in alive if t.speed is not None]
        drift = np.median(moving, axis=0) if moving else np.zeros(2)
        margin = MARGIN * record["width"]
        expected = grow([t.expected(time_s, drift) for t in alive], GROWTH, margin)
        iou = overlaps(expected, grow([i["box"] for i in items], GROWTH, margin))[0]
        new = dict(enumerate(items))
        for row, column in best_pairs(iou, LINK_IOU):
            alive[row].see(time_s, place, record["index"], new.pop(column))
        for item in new.values():
            tracks.append(ObjectTrack(time_s, time_s, item["size"], record.get("drive", "")))
            tracks[-1].see(time_s, place, record["index"], item)
    return tracks


def labels_by_height(labels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Return for each group of `HEIGHT_EDGES` the labels [H, W] in which objects of other heights are void."""
    objects = (labels == 1).view(np.uint8)
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(objects, connectivity=8)
    heights = stats[:, cv2.CC_STAT_HEIGHT] * (REFERENCE_WIDTH / labels.shape[1])
    group = np.where(objects, np.searchsorted(HEIGHT_EDGES[1:-1], heights, side="right")[numbers], -1)
    groups = range(len(HEIGHT_EDGES) - 1)
    return [np.where((group >= 0) & (group != number), np.uint8(VOID), labels) for number in groups]


def region_recall(records: Sequence[dict[str, Any]], by_height: bool = False) -> dict[str, list[dict[str, Any]]]:
    """Group all labelled objects and average over each group.

    `by_size`, `by_distance` and, where asked for, `by_height`: for each group its edges (`from`, `to`), number of
    `objects`, mean `recall` (share of an object's pixels in the mask), mean `siou`, and `found` (share with an adjusted
    IoU >= 0.25); None where a group is empty.
    """
    rows = [
        (
            item["size"] / (record["height"] * record["width"]),
            (record["height"] - item["box"][3]) / record["height"],
            item["recall"],
            item["siou"],
            (item["box"][3] - item["box"][1]) * REFERENCE_WIDTH / record["width"],
        )
        for record in records
        for item in record.get("objects", [])
    ]
    table = np.array(rows, np.float64).reshape(-1, 5)
    groups = {"by_size": _groups(table, 0, SIZE_EDGES), "by_distance": _groups(table, 1, DISTANCE_EDGES)}
    return groups | ({"by_height": _groups(table, 4, HEIGHT_EDGES)} if by_height else {})


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
