"""Bringing together what belongs to one frame, by its stamp. Knows no ROS type."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any


class Pairing:
    """Collects the parts of frames; a frame is complete when it has every part."""

    def __init__(self, parts: frozenset[str], keep: int) -> None:
        """Create it.

        Args:
            parts: Names of the parts of a frame.
            keep: Incomplete frames to remember at most; the oldest is forgotten first.
        """
        self._parts = parts
        self._keep = keep
        self._frames: dict[Hashable, dict[str, Any]] = {}

    def add(self, key: Hashable, part: str, value: Any) -> Mapping[str, Any] | None:
        """Add a part to its frame; return the frame's parts when it is complete, and forget it and all before it."""
        frame = self._frames.setdefault(key, {})
        frame[part] = value
        if frame.keys() >= self._parts:
            for old in list(self._frames):
                del self._frames[old]
                if old == key:
                    break
            return frame
        while len(self._frames) > self._keep:
            del self._frames[next(iter(self._frames))]
        return None
