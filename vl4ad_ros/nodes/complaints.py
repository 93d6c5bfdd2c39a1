"""Saying a thing once, not thirty times a second. Knows no ROS type."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

PERIOD_S = 10.0


class Complaints:
    """Passes a sentence on when its cause is new, and then at most every `PERIOD_S` seconds."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._said: dict[str, tuple[float, int]] = {}

    def add(self, cause: str, sentence: str) -> None:
        """Report something; repeated causes are counted, not said."""
        now = time.monotonic()
        with self._lock:
            last, kept = self._said.get(cause, (-PERIOD_S, 0))
            due = now - last >= PERIOD_S
            self._said[cause] = (now, 0) if due else (last, kept + 1)
        if due:
            self._say(f"{sentence} (and {kept} more like it before)" if kept else sentence)
