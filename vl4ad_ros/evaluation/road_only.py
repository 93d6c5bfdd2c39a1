"""Evaluation on the road alone: what lies outside a region of interest counts as void."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.frames import Frame, FrameSource
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.labels import VOID, LabelMapping, read_label_values
from vl4ad_ros.io.media import PICTURES


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
