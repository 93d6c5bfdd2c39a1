"""Regions followed over frames, and boxes paired by their overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.runtime.regions import Region
from vl4ad_ros.runtime.settings import TrackSettings

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


# Two boxes, each grown by this share of its size and this many pixels, belong together from this IoU on.
GROWTH, MARGIN, LINK_IOU = 0.3, 4.0, 0.15
# A region that lies in the box of a track with at least this share of its area is a piece of it.
PIECE_SHARE = 0.7
# The largest regions are followed; noise has hundreds.
MAX_FOLLOWED = 64
# Best-effort frames may overtake each other by so much.
OVERTAKING_S = 0.1


class _Track:
    def __init__(self, id: int, box: Boxes, stamp_s: float, window: int) -> None:
        self.id, self.box, self.first_s, self.last_s = id, box, stamp_s, stamp_s
        self.frames, self.confirmed = 1, False
        self.seen: deque[bool] = deque([True], maxlen=window)
        self._velocity: Boxes = np.zeros(4)  # of the box's edges, so that it grows as the vehicle comes nearer

    def expected(self, stamp_s: float) -> Boxes:
        """Return where the box should be now, [4]."""
        box = self.box + self._velocity * (stamp_s - self.last_s)
        return np.concatenate([np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])])

    def mark(self, region: Region, stamp_s: float) -> Region:
        """Return a region with this track."""
        seconds = stamp_s - self.first_s
        return replace(region, id=self.id, frames=self.frames, seconds=seconds, confirmed=self.confirmed)

    def see(self, box: Boxes, stamp_s: float) -> None:
        """Take in the box of another frame, [4]."""
        if passed := stamp_s - self.last_s:
            velocity = (box - self.box) / passed
            self._velocity = velocity if self.frames == 1 else (self._velocity + velocity) / 2
        self.box, self.last_s = box, stamp_s
        self.frames += 1
        self.seen.append(True)


class Tracker:
    """The tracks of one camera."""

    def __init__(self, settings: TrackSettings | None = None) -> None:
        self.settings = settings or TrackSettings()
        self._tracks: list[_Track] = []
        self._next_id = 1
        self._last_s = 0.0

    def update(self, regions: Sequence[Region], stamp_s: float, threshold: float) -> tuple[Region, ...]:
        """Follow the tracks into a frame; return its regions, the largest first, with their tracks.

        Where `stamp_s` jumps back, all tracks end; `threshold` is the one that the regions were made with.
        """
        if stamp_s < self._last_s - OVERTAKING_S:
            self._tracks, self._last_s = [], stamp_s
        stamp_s = self._last_s = max(stamp_s, self._last_s)
        followed = regions[:MAX_FOLLOWED]
        boxes = np.array([(r.x, r.y, r.x + r.width, r.y + r.height) for r in followed], np.float64).reshape(-1, 4)
        owners = self._assign(boxes, stamp_s)
        strong = min(threshold + self.settings.start_margin, 1.0)
        for index, region in enumerate(followed):
            if owners[index] is None and region.max >= strong:
                track = _Track(self._next_id, boxes[index], stamp_s, self.settings.window)
                self._tracks.append(track)
                owners[index] = track
                self._next_id += 1
        self._judge(stamp_s)
        return (
            *(one if t is None else t.mark(one, stamp_s) for one, t in zip(followed, owners, strict=True)),
            *regions[MAX_FOLLOWED:],
        )

    def _assign(self, boxes: Boxes, stamp_s: float) -> list[_Track | None]:
        """Return the track of each box, and let the tracks see them: the best match first, then the pieces."""
        owners: list[_Track | None] = [None] * len(boxes)
        expected = np.array([track.expected(stamp_s) for track in self._tracks]).reshape(-1, 4)
        iou = overlaps(grow(expected, GROWTH, MARGIN), grow(boxes, GROWTH, MARGIN))[0]
        for row, column in best_pairs(iou, LINK_IOU):
            owners[column] = self._tracks[row]
        for track, place in zip(self._tracks, expected, strict=True):
            own = [owner is track for owner in owners]
            around = _union(np.vstack([place[None], boxes[own]]))
            for index in np.flatnonzero(overlaps(around[None], boxes)[1][0] >= PIECE_SHARE):
                owners[index] = owners[index] or track
            pieces = boxes[[owner is track for owner in owners]]
            if len(pieces):
                track.see(_union(pieces), stamp_s)
            else:
                track.seen.append(False)
        return owners

    def _judge(self, stamp_s: float) -> None:
        """Confirm tracks, and end those that are lost or can no longer be confirmed."""
        needed, window = min(self.settings.confirm, self.settings.window), self.settings.window
        for track in self._tracks:
            track.confirmed |= sum(track.seen) >= needed
        self._tracks = [
            track
            for track in self._tracks
            if stamp_s - track.last_s <= self.settings.patience_s
            and (track.confirmed or track.seen.count(False) <= window - needed)
        ]


def _union(boxes: Boxes) -> Boxes:
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
