"""The names of the scores and of the methods, in the order of their weights in the graph's `settings` input."""

from __future__ import annotations

from vl4ad_ros.io.errors import Vl4adError

SCORINGS: tuple[str, ...] = ("vl4ad", "msp", "max_logit", "entropy", "rba")
METHODS: tuple[str, ...] = ("vl4ad", "random_word")
DEFAULT_SCORING = "vl4ad"
# settings = [1/T, one weight per scoring, one weight per method]
SETTINGS_SIZE = 1 + len(SCORINGS) + len(METHODS)


def check_scoring(name: str) -> str:
    """Return the name if it is that of a score.

    Raises:
        Vl4adError: If it is not.
    """
    if name not in SCORINGS:
        raise Vl4adError(f"Unknown scoring: expected one of {list(SCORINGS)}, got '{name}'.")
    return name
