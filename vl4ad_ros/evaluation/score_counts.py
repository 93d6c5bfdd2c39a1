"""Counts of pixels per score: exact while distinct scores are few, in cells of a grid beyond that.

The grid has two levels. The upper half of a float32 (sign, exponent, seven bits of mantissa) names a bucket; only
buckets that occur take memory. A bucket is divided evenly, as finely as `grain` says: cells of all buckets are about
2^grain wide, or hold one float32 each where float32 is no finer. The grain is the smallest that keeps the limit of
cells. For scores in [0, 1] and 2^24 cells it is 2^-24 at most: from 1/2 upwards each score keeps its own cell, and what
is merged is the crowd of tiny scores of normal pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint32]
Counts = NDArray[np.int64]

MANTISSA, BIAS = 23, 127
HALF = 16
BUCKETS = 1 << HALF
FINEST = 1 - BIAS - MANTISSA  # No two float32 differ by less than 2^-149.


def to_keys(scores: NDArray[np.float32]) -> Keys:
    """Map float32 to uint32 so that the order stays; adding zero makes -0 and 0 one value."""
    bits = (scores + np.float32(0)).view(np.uint32)
    keys: Keys = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint32, copy=False)
    return keys


def to_scores(keys: Keys) -> NDArray[np.float32]:
    """Undo `to_keys`."""
    bits: Keys = np.where(keys >> 31, keys ^ np.uint32(1 << 31), ~keys).astype(np.uint32, copy=False)
    return bits.view(np.float32)


@dataclass(frozen=True, eq=False)
class Grid:
    """A division of the float32 numbers into cells.

    Attributes:
        buckets: int64 [b], upper halves of the keys that occur, ascending.
        grain: Cells are about 2^grain wide, or hold one float32 each.
    """

    buckets: NDArray[np.int64]
    grain: int

    @cached_property
    def shifts(self) -> NDArray[np.int64]:
        """Low bits of a key that do not count, for each bucket: 0 to 16."""
        raw = np.where(self.buckets >> (HALF - 1), self.buckets ^ (1 << (HALF - 1)), ~self.buckets & (BUCKETS - 1))
        exponent = np.maximum((raw >> 7) & 0xFF, 1) - BIAS - MANTISSA
        return np.asarray(np.clip(self.grain - exponent, 0, HALF), np.int64)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First cell of each bucket, and the number of all cells at the end: [b + 1]."""
        return np.concatenate([[0], np.cumsum(np.right_shift(BUCKETS, self.shifts))])

    @cached_property
    def _tables(self) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        start, shift = np.zeros(BUCKETS, np.int32), np.zeros(BUCKETS, np.uint8)
        start[self.buckets], shift[self.buckets] = self.starts[:-1], self.shifts
        return start, shift

    def cells(self, keys: Keys) -> NDArray[np.int32]:
        """Return the cell of each key; its bucket must be among the grid's."""
        start, shift = self._tables
        bucket = keys >> HALF
        low: NDArray[np.int32] = (keys & np.uint32(BUCKETS - 1)).view(np.int32)
        return np.asarray(start[bucket] + (low >> shift[bucket]), np.int32)

    def edges(self, cells: NDArray[np.int64]) -> tuple[Keys, NDArray[np.bool_]]:
        """Return the lowest key of each cell, and whether the cell holds several float32."""
        place = np.searchsorted(self.starts, cells, side="right") - 1
        shift = self.shifts[place]
        keys = (self.buckets[place] << HALF) + ((cells - self.starts[place]) << shift)
        return keys.astype(np.uint32), shift > 0

    def over(self, buckets: NDArray[np.int64], limit: int) -> Grid:
        """Return the grid over further buckets, coarser where the limit of cells asks for it."""
        together = np.union1d(self.buckets, buckets)
        if len(together) == len(self.buckets):
            return self
        grid = Grid(together, self.grain)
        while grid.starts[-1] > max(limit, len(together)):
            grid = Grid(together, grid.grain + 1)
        return grid


class ScoreCounts:
    """Pixels of two kinds by score.

    What it ends up with depends on the set of pixels alone, not on their order or on how they came in parts: it goes
    over to the grid when the distinct scores are too many, and the grain depends on the buckets that occur.
    """

    def __init__(self, max_distinct: int, max_cells: int) -> None:
        """Start empty.

        Args:
            max_distinct: Distinct scores up to which the counts are exact whatever the scores are, 20 bytes each.
            max_cells: Cells of the grid beyond that, 16 bytes each.
        """
        self._max_distinct, self._max_cells = max_distinct, max_cells
        self._grid: Grid | None = None
        self._keys: Keys = np.empty(0, np.uint32)
        self._counts: Counts = np.empty((2, 0), np.int64)

    @property
    def exact(self) -> bool:
        """Whether every distinct score has its own count."""
        return self._grid is None

    def add(self, keys: Keys, truth: NDArray[np.bool_]) -> None:
        """Count pixels: their keys and whether they are of the second kind."""
        if self._grid is None:
            ordered = [np.sort(keys[truth == kind]) for kind in (False, True)]
            starts = [_starts(part) for part in ordered]
            distinct = [part[start] for part, start in zip(ordered, starts, strict=True)]
            counts = np.zeros((2, len(distinct[0]) + len(distinct[1])), np.int64)
            counts[0, : len(distinct[0])] = np.diff(starts[0], append=len(ordered[0]))
            counts[1, len(distinct[0]) :] = np.diff(starts[1], append=len(ordered[1]))
            self._insert(np.concatenate(distinct), counts)
            return
        self._cover(keys)
        cells = self._grid.cells(keys)
        for kind in (False, True):
            np.add.at(self._counts[int(kind)], cells[truth == kind], 1)

    def merge(self, other: ScoreCounts) -> None:
        """Count in what another one has counted."""
        keys, counts, _ = other.entries()
        if other._grid is not None:
            self._to_grid(other._grid.grain)
        self._insert(keys, counts)

    def entries(self) -> tuple[Keys, Counts, NDArray[np.bool_]]:
        """Return the keys that occur (of cells: their lowest), ascending, the counts [2, n], and which are several."""
        if self._grid is None:
            return self._keys, self._counts, np.zeros(len(self._keys), bool)
        filled = np.flatnonzero(self._counts.any(axis=0))
        keys, several = self._grid.edges(filled)
        return keys, self._counts[:, filled], several

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what has been counted as arrays, for storing."""
        keys, counts, _ = self.entries()
        grain = FINEST - 1 if self._grid is None else self._grid.grain
        smallest = np.min_scalar_type(int(counts.max(initial=0)))
        return {"grain": np.asarray(grain), "keys": keys, "counts": counts.astype(smallest)}

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Count in what `state` has stored."""
        if int(state["grain"]) >= FINEST:
            self._to_grid(int(state["grain"]))
        self._insert(state["keys"].astype(np.uint32), state["counts"].astype(np.int64))

    def _insert(self, keys: Keys, counts: Counts) -> None:
        """Add counts of keys, which may repeat."""
        if self._grid is not None:
            self._cover(keys)
            cells = self._grid.cells(keys)
            for mine, further in zip(self._counts, counts, strict=True):
                np.add.at(mine, cells, further)
            return
        together = np.concatenate([self._keys, keys])
        order = np.argsort(together, kind="stable")
        ordered = together[order]
        starts = _starts(ordered)
        self._keys = ordered[starts]
        both = np.concatenate([self._counts, counts], axis=1)[:, order]
        self._counts = np.add.reduceat(both, starts, axis=1) if len(starts) else both
        if len(self._keys) > self._max_distinct:
            self._to_grid(FINEST)

    def _to_grid(self, grain: int) -> None:
        """Go over to a grid, or to a coarser one."""
        if self._grid is not None and self._grid.grain >= grain:
            return
        keys, counts, _ = self.entries()
        self._grid, self._counts = Grid(np.empty(0, np.int64), grain), np.empty((2, 0), np.int64)
        self._keys = np.empty(0, np.uint32)
        self._insert(keys, counts)

    def _cover(self, keys: Keys) -> None:
        """Make sure that the grid has the keys' buckets."""
        assert self._grid is not None
        present = np.flatnonzero(np.bincount(keys >> HALF, minlength=BUCKETS))
        wider = self._grid.over(present, self._max_cells)
        if wider is self._grid:
            return
        old_keys, old, _ = self.entries()
        self._grid, self._counts = wider, np.zeros((2, int(wider.starts[-1])), np.int64)
        if len(old_keys):
            self._insert(old_keys, old)


def _starts(ordered: Keys) -> NDArray[np.intp]:
    """Return where each distinct value of a sorted array begins."""
    if not len(ordered):
        return np.empty(0, np.intp)
    return np.concatenate([np.zeros(1, np.intp), np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
