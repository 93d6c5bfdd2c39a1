"""Frames to evaluate, from several sources or on the road alone, and what of them could not be read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.labels import VOID, LabelMapping, read_label_values
from vl4ad_ros.io.media import PICTURES

# Causes that a sentence on unreadable frames names.
MAX_CAUSES = 3
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame to evaluate."""

    index: int  # its place in the source, from 0
    name: str  # what people call it: file stem or stamp
    image: NDArray[np.uint8]  # RGB, uint8 [H, W, 3]
    # uint8 [H, W], 1 = anomaly, 0 = none, 255 = void; None where there is no ground truth.
    labels: NDArray[np.uint8] | None = None
    stamp_ns: int | None = None  # time of a drive's frame, nanoseconds; None outside of drives
    # A recorded result, float32 [h, w] in [0, 1]; None where the detector is still to run.
    uncertainty: NDArray[np.float32] | None = None
    drive: str = ""  # name of the drive that the frame belongs to; empty outside of drives
    # Measured when the result was recorded: stage -> milliseconds.
    latency_ms: dict[str, float] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the maps that are measured: those of the labels, else of the image."""
        height, width = self.image.shape[:2] if self.labels is None else self.labels.shape
        return height, width


@dataclass(frozen=True)
class Fault:
    """Something of a frame that could not be read."""

    name: str
    what: str  # `image`, `label` or `map`
    sentence: str  # why
    left_out: bool = True  # whether the frame is left out; else it counts as unlabelled


def fault_sentences(faults: Mapping[int, Fault], frames: int) -> list[str]:
    """Return one sentence per kind of what could not be read (by frame index), with the first few causes."""
    kinds: dict[tuple[str, bool], list[Fault]] = {}
    for _, fault in sorted(faults.items()):
        kinds.setdefault((fault.what, fault.left_out), []).append(fault)
    sentences = []
    for (what, left_out), these in sorted(kinds.items()):
        causes = "; ".join(f"{fault.name}: {fault.sentence.rstrip('.')}" for fault in these[:MAX_CAUSES])
        more = "; ..." if len(these) > MAX_CAUSES else ""
        fate = "are left out" if left_out else "count as unlabelled"
        sentences.append(f"{len(these)} of {frames} {what}s cannot be read, their frames {fate} ({causes}{more}).")
    return sentences


class FrameSource(ABC):
    """A source of frames that any process can open again and read in parts."""

    def __init__(self) -> None:
        self.found: list[str] = []  # sentences on what could not be used, as far as opening it showed
        self.faults: dict[int, Fault] = {}  # frame index -> what could not be read; grows while frames are read

    @property
    def problems(self) -> list[str]:
        """Sentences on what could not be used, so far."""
        return self.found + fault_sentences(self.faults, len(self))

    @property
    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What it is, for result files: kind, path, hash, number of frames, whether it is a drive (`is_drive`)."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of frames."""

    @abstractmethod
    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Yield those of the frames with these indices, ascending, that can be read; `faults` has the others."""

    def _read(self, index: int, name: str, what: str, read: Callable[[], T], left_out: bool = True) -> T | None:
        """Return what `read` returns; None where it cannot be read, and a fault of the frame."""
        try:
            return read()
        except Vl4adError as error:
            self.faults[index] = Fault(name, what, str(error), left_out)
            return None


class JoinedSource(FrameSource):
    """Several sources, one after the other, as one."""

    def __init__(self, parts: Sequence[FrameSource]) -> None:
        super().__init__()
        self._parts = list(parts)
        self.found = [sentence for part in parts for sentence in part.found]

    @property
    def description(self) -> dict[str, Any]:
        """What it is: the parts' descriptions."""
        about = [part.description for part in self._parts]
        return {
            "kind": "several",
            "name": ", ".join(one["name"] for one in about),
            "parts": about,
            "frames": len(self),
            "is_drive": all(one["is_drive"] for one in about),
        }

    def __len__(self) -> int:
        """Return the number of frames."""
        return sum(len(part) for part in self._parts)

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Yield those of the frames with these indices, ascending, that can be read; `faults` has the others."""
        start = 0
        for part in self._parts:
            here = [index - start for index in indices if start <= index < start + len(part)]
            for frame in part.frames(here) if here else ():
                yield replace(frame, index=start + frame.index)
            self.faults |= {start + index: fault for index, fault in part.faults.items()}
            start += len(part)


class RoadOnlySource(FrameSource):
    """Another source's frames, with labels only inside the region of interest of each."""

    def __init__(self, source: FrameSource, folder: Path, values: frozenset[int] | None = None) -> None:
        """Find the masks or label images with the frames' names; `values` are inside, None: all but 0."""
        super().__init__()
        self._source, self._folder, self._values = source, folder, values
        self.found, self.faults = source.found, source.faults
        files = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in PICTURES)
        self._masks = {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}
        if not self._masks:
            raise Vl4adError(f"--road-only {folder}: no masks or label images are in it.")

    @property
    def description(self) -> dict[str, Any]:
        """What it is: the source's description, and whence the region comes."""
        values = None if self._values is None else sorted(self._values)
        return self._source.description | {"road_only": {"path": str(self._folder), "values": values}}

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._source)

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Yield those of the frames with these indices, ascending, that can be read; `faults` has the others."""
        for frame in self._source.frames(indices):
            if frame.labels is None:
                yield frame
            elif (labels := self._inside(frame, frame.labels)) is not None:
                yield replace(frame, labels=labels)

    def _inside(self, frame: Frame, labels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        def read() -> NDArray[np.uint8]:
            path = self._masks.get(frame.name)
            if path is None:
                raise Vl4adError(f"{self._folder} has no picture of this name")
            values = read_label_values(path)
            if values.shape != labels.shape:
                raise Vl4adError(f"{path} is {values.shape}, the labels are {labels.shape}")
            inside = values != 0 if self._values is None else LabelMapping(self._values, frozenset()).apply(values) == 1
            return np.where(inside, labels, np.uint8(VOID))

        return self._read(frame.index, frame.name, "road mask", read)
