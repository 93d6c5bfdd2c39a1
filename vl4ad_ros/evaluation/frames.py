"""Where frames come from: one small protocol for folders, bags and arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame to evaluate.

    Attributes:
        index: Its place in the source, from 0.
        name: What people call it: file stem or stamp.
        image: RGB, uint8 [H, W, 3].
        labels: uint8 [H, W], 1 = anomaly, 0 = none, 255 = void; None where there is no ground truth.
        stamp_ns: Time of a drive's frame, nanoseconds; None outside of drives.
        uncertainty: A recorded result, float32 [H, W] in [0, 1]; None where the detector is still to run.
        latency_ms: Measured when the result was recorded: stage -> milliseconds.
    """

    index: int
    name: str
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None = None
    stamp_ns: int | None = None
    uncertainty: NDArray[np.float32] | None = None
    latency_ms: dict[str, float] = field(default_factory=dict)


class FrameSource(Protocol):
    """A source of frames that any process can open again and read in parts.

    Attributes:
        problems: Sentences on what could not be used.
    """

    problems: list[str]

    @property
    def description(self) -> dict[str, Any]:
        """What it is, for result files: kind, path, hash, number of frames, whether it is a drive (`is_drive`)."""
        ...

    def __len__(self) -> int:
        """Return the number of frames."""
        ...

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Yield the frames with these indices, ascending."""
        ...
