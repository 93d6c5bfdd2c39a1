"""The scores: their names, and the way from a raw score to the published map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError

SCORINGS: tuple[str, ...] = ("vl4ad", "msp", "max_logit", "entropy", "rba", "known_mass")
FIRST_SCORINGS = SCORINGS[:5]
"""Those in the graphs of bundles whose card does not name its scores."""
METHODS: tuple[str, ...] = ("vl4ad", "random_word")
DEFAULT_SCORING = "vl4ad"
# settings = [1/T, one weight per scoring, one weight per method]
SETTINGS_SIZE = 1 + len(SCORINGS) + len(METHODS)


def check_scoring(name: str, scorings: Sequence[str] = SCORINGS) -> str:
    """Return the name if it is that of a score."""
    if name not in SCORINGS:
        raise Vl4adError(f"Unknown scoring: expected one of {list(SCORINGS)}, got '{name}'.")
    if name not in scorings:
        raise Vl4adError(f"The model's graph has no score '{name}', only {list(scorings)}: export it again.")
    return name


IMAGE_SHARE = 0.01
"""Share of a picture's pixels that its image score looks at."""


def to_uncertainty(raw: NDArray[np.float32], scoring: str, temperature: float) -> NDArray[np.float32]:
    """Map a raw score u of any shape to the published uncertainty in [0, 1]; monotone, so that rankings stay.

    vl4ad, msp, rba, known_mass: clip(1 + u, 0, 1). max_logit: clip(1 + u T, 0, 1), for a dense model one minus the
    largest cosine. entropy: clip(u, 0, 1). A value that is not a number counts as fully uncertain (1).
    """
    check_scoring(scoring)
    scale = np.float32(temperature if scoring == "max_logit" else 1.0)
    shifted = raw if scoring == "entropy" else 1 + raw * scale
    return np.asarray(np.clip(np.nan_to_num(shifted, nan=1.0, posinf=1.0, neginf=0.0), 0, 1), dtype=np.float32)


def image_score(uncertainty: NDArray[np.float32]) -> float:
    """Return how anomalous a picture is as a whole: the mean of the largest 1 % of its map [H, W], in [0, 1].

    The largest value alone would be that of a single pixel's noise, the mean of all would hide a small thing.
    """
    flat = uncertainty.ravel()
    first = flat.size - max(1, round(IMAGE_SHARE * flat.size))
    return float(np.partition(flat, first)[first:].mean(dtype=np.float64))
