"""Where frames come from: one small protocol for folders, bags and arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# Causes that a sentence on unreadable frames names.
MAX_CAUSES = 3


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


@dataclass(frozen=True)
class Fault:
    """Something of a frame that could not be read.

    Attributes:
        name: The frame's name.
        what: `image`, `label` or `map`.
        sentence: Why.
        left_out: Whether the frame is left out; else it counts as unlabelled.
    """

    name: str
    what: str
    sentence: str
    left_out: bool = True


def fault_sentences(faults: Mapping[int, Fault], frames: int) -> list[str]:
    """Return one sentence per kind of what could not be read, with the first few causes.

    Args:
        faults: Frame index -> what was wrong.
        frames: How many frames there were.
    """
    sentences = []
    for what, left_out in sorted({(fault.what, fault.left_out) for fault in faults.values()}):
        these = [
            faults[index]
            for index in sorted(faults)
            if (faults[index].what, faults[index].left_out) == (what, left_out)
        ]
        causes = "; ".join(f"{fault.name}: {fault.sentence.rstrip('.')}" for fault in these[:MAX_CAUSES])
        more = "; ..." if len(these) > MAX_CAUSES else ""
        fate = "are left out" if left_out else "count as unlabelled"
        sentences.append(f"{len(these)} of {frames} {what}s cannot be read, their frames {fate} ({causes}{more}).")
    return sentences


class FrameSource(Protocol):
    """A source of frames that any process can open again and read in parts.

    Attributes:
        found: Sentences on what could not be used, as far as opening it told.
        faults: Frame index -> what could not be read; grows while frames are read.
    """

    found: list[str]

    @property
    def faults(self) -> dict[int, Fault]:
        """Frame index -> what could not be read, so far."""
        ...

    @property
    def description(self) -> dict[str, Any]:
        """What it is, for result files: kind, path, hash, number of frames, whether it is a drive (`is_drive`)."""
        ...

    def __len__(self) -> int:
        """Return the number of frames."""
        ...

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Yield those of the frames with these indices, ascending, that can be read; `faults` has the others."""
        ...


class JoinedSource:
    """Several sources, one after the other, as one.

    Attributes:
        parts: The sources.
        found: Sentences on what could not be used, of all parts.
    """

    def __init__(self, parts: Sequence[FrameSource]) -> None:
        self.parts = list(parts)
        self.found = [sentence for part in self.parts for sentence in part.found]

    @property
    def faults(self) -> dict[int, Fault]:
        """Frame index -> what could not be read, so far."""
        shifted: dict[int, Fault] = {}
        start = 0
        for part in self.parts:
            shifted |= {start + index: fault for index, fault in part.faults.items()}
            start += len(part)
        return shifted

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
        """Yield those of the frames with these indices, ascending, that can be read; `faults` has the others."""
        start = 0
        for part in self.parts:
            here = [index - start for index in indices if start <= index < start + len(part)]
            for frame in part.frames(here) if here else ():
                yield replace(frame, index=start + frame.index)
            start += len(part)
