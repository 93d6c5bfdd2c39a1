"""Scores of any type as float32, in the same order: as they are where float32 holds them, else by their rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.pixel_metrics import VOID
from vl4ad_ros.evaluation.score_counts import Keys, to_keys, to_scores
from vl4ad_ros.io.errors import Vl4adError

# Ranks are counted from zero upwards, in float32 numbers.
_ZERO = int(to_keys(np.zeros(1, np.float32))[0])


@dataclass(frozen=True, eq=False)
class Ranked:
    """The distinct scores behind the ranks.

    Attributes:
        levels: [n], ascending.
    """

    levels: NDArray[Any]

    def score(self, rank: float) -> float:
        """Return the score of a rank as `as_float32` gave it; NaN for NaN."""
        if np.isnan(rank):
            return float("nan")
        value = self.levels[int(to_keys(np.array([rank], np.float32))[0]) - _ZERO]
        return int(value) if np.issubdtype(self.levels.dtype, np.integer) else float(value)


def as_float32(scores: NDArray[Any], labels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], Ranked | None]:
    """Return scores as float32, so that what differs still differs.

    Where float32 is too coarse or too small for a score, each is replaced by its rank among all: the n-th float32 from
    0 upwards. Nothing that depends on the order alone changes.

    Args:
        scores: Numbers of any real type.
        labels: uint8, of the same shape; what is 255 does not count.

    Returns:
        The scores, and what is behind the ranks (None: they are no ranks).

    Raises:
        Vl4adError: If a score that counts is not a finite number (of float16 and float32, `PixelMetrics` says so).
    """
    if scores.dtype in (np.float16, np.float32):
        return scores.astype(np.float32, copy=False), None
    seen = labels != VOID
    values = scores[seen]
    if not np.isfinite(values).all():
        raise Vl4adError("The scores contain NaN or infinity; every pixel needs a finite number.")
    with np.errstate(over="ignore", invalid="ignore"):
        single = scores.astype(np.float32)
        held = single[seen]
        # What comes back unchanged was distinct.
        if np.isfinite(held).all() and np.array_equal(held.astype(scores.dtype), values):
            return single, None
    levels, ranks = np.unique(values, return_inverse=True)
    keys: Keys = (ranks + _ZERO).astype(np.uint32)
    single[seen] = to_scores(keys)
    return single, Ranked(levels)
