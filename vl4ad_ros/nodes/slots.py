"""Newest frame wins: one slot per camera, shared fairly. Knows no ROS type."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Taken(Generic[T]):
    """A frame taken from its slot.

    Attributes:
        camera: Index of the camera.
        item: What was put.
        arrived: `time.monotonic()` when it was put.
    """

    camera: int
    item: T
    arrived: float


class Slots(Generic[T]):
    """Holds at most one waiting frame per camera; a newer one replaces it, so that no queue can grow."""

    def __init__(self, cameras: int) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[int, Taken[T]] = {}
        self._turn = [0] * cameras
        self._turns = 0
        self._closed = False

    def put(self, camera: int, item: T) -> bool:
        """Put a frame into its camera's slot; return whether it replaced one that nobody had taken."""
        with self._changed:
            replaced = camera in self._waiting
            self._waiting[camera] = Taken(camera, item, time.monotonic())
            self._changed.notify()
            return replaced

    def take(self, limit: int, patience: float) -> Sequence[Taken[T]]:
        """Wait for frames and take up to `limit` of them, those of the camera first that waited longest for its turn.

        Args:
            limit: Frames at most.
            patience: Seconds to wait, once there is a frame, for those of the other cameras.

        Returns:
            The frames; none when the slots were closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            wanted = min(limit, len(self._turn))
            if patience > 0 and len(self._waiting) < wanted:
                self._changed.wait_for(lambda: len(self._waiting) >= wanted or self._closed, timeout=patience)
            if self._closed:
                return []
            chosen = sorted(self._waiting, key=lambda camera: self._turn[camera])[:limit]
            for camera in chosen:
                self._turns += 1
                self._turn[camera] = self._turns
            return [self._waiting.pop(camera) for camera in chosen]

    def close(self) -> int:
        """Wake the taker up for good; return how many waiting frames were dropped."""
        with self._changed:
            self._closed = True
            dropped = len(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
            return dropped
