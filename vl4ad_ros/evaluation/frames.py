"""Where frames come from: one small protocol for folders, bags and arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
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
        drive: Name of the drive that the frame belongs to; empty outside of drives.
        latency_ms: Measured when the result was recorded: stage -> milliseconds.
    """

    index: int
    name: str
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None = None
    stamp_ns: int | None = None
    uncertainty: NDArray[np.float32] | None = None
    drive: str = ""
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


class JoinedSource:
    """Several sources, one after the other, as one.

    Attributes:
        parts: The sources.
        problems: Sentences on what could not be used, of all parts.
    """

    def __init__(self, parts: Sequence[FrameSource]) -> None:
        self.parts = list(parts)
        self.problems = [problem for part in self.parts for problem in part.problems]

    @property
    def description(self) -> dict[str, Any]:
        """What it is: the parts' descriptions."""
        about = [part.description for part in self.parts]
        return {
            "kind": "several",
            "name": ", ".join(one["name"] for one in about),
            "parts": about,
            "frames": len(self),
            "is_drive": all(one["is_drive"] for one in about),
        }

    def __len__(self) -> int:
        """Return the number of frames."""
        return sum(len(part) for part in self.parts)

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Yield the frames with these indices, ascending."""
        start = 0
        for part in self.parts:
            here = [index - start for index in indices if start <= index < start + len(part)]
            for frame in part.frames(here) if here else ():
                yield replace(frame, index=start + frame.index)
            start += len(part)
