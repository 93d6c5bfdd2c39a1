"""Bringing together what belongs to one frame, by its stamp. Knows no ROS type."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any


class Pairing:
    """Collects the parts of frames; a frame is complete when it has every part."""

    def __init__(self, parts: frozenset[str], keep_frames: int, keep_bytes: int) -> None:
        """Create it.

        Args:
            parts: Names of the parts of a frame.
            keep_frames: Incomplete frames to remember at most; the oldest is forgotten first.
            keep_bytes: Size of all their parts at most; the newest frame is kept in any case.
        """
        self._parts = parts
        self._keep_frames = keep_frames
        self._keep_bytes = keep_bytes
        self._frames: dict[Hashable, dict[str, Any]] = {}
        self._sizes: dict[Hashable, int] = {}

    def add(self, key: Hashable, part: str, value: Any, size: int = 0) -> Mapping[str, Any] | None:
        """Add a part of `size` bytes to its frame.

        Returns:
            The frame's parts when it is complete; it is forgotten then, and all before it.
        """
        frame = self._frames.setdefault(key, {})
        frame[part] = value
        self._sizes[key] = self._sizes.get(key, 0) + size
        if frame.keys() >= self._parts:
            for old in list(self._frames):
                self._forget(old)
                if old == key:
                    break
            return frame
        while len(self._frames) > 1 and (
            len(self._frames) > self._keep_frames or sum(self._sizes.values()) > self._keep_bytes
        ):
            self._forget(next(iter(self._frames)))
        return None

    def _forget(self, key: Hashable) -> None:
        del self._frames[key], self._sizes[key]
