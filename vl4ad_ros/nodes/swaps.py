"""Which prompt sets were in force, and since which stamp on each camera. Knows no ROS type."""

from __future__ import annotations

from typing import Any

# Swaps that are told of besides the one in force.
HISTORY = 16


class Swaps:
    """The last swaps in their order; a frame that was in work during a swap still counts for the one that made it."""

    def __init__(self) -> None:
        self._entries: dict[int, dict[str, Any]] = {}

    def begin(self, swap: int, name: str, version: str) -> None:
        """Note a swap by its number, and the name and version of its prompt set; repeated, it changes nothing."""
        self._entries.setdefault(swap, {"swap": swap, "name": name, "version": version, "since": {}})
        while len(self._entries) > HISTORY + 1:
            del self._entries[min(self._entries)]

    def first_result(self, swap: int, camera: str, stamp: dict[str, int]) -> None:
        """Note the stamp of a swap's first result on a camera."""
        if swap in self._entries:
            self._entries[swap]["since"][camera] = stamp

    def told(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the newest swap, and those before it, the oldest first."""
        entries = [self._entries[swap] for swap in sorted(self._entries)]
        return entries[-1], entries[:-1]
