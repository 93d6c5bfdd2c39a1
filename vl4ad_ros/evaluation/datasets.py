"""Folders of images and labels as sources of frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.frames import Frame, FrameSource, fault_sentences
from vl4ad_ros.evaluation.layouts import Layout, find_pairs
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import sha256_text
from vl4ad_ros.io.labels import read_label_values
from vl4ad_ros.io.media import read_picture


class DatasetSource(FrameSource):
    """A benchmark's folder."""

    def __init__(self, root: Path, layout: Layout, with_unlabelled: bool = False) -> None:
        """Find the files; submissions take images without labels, too."""
        super().__init__()
        self.root, self.layout, self._with_unlabelled = root, layout, with_unlabelled
        pairs, self.found = find_pairs(root, layout)
        self._pairs = [pair for pair in pairs if with_unlabelled or pair[2] is not None or layout.is_normal(pair[0])]
        if not self._pairs:
            raise Vl4adError(f"{root}: no image of {layout.title} has a label. {' '.join(self.found)}")

    @property
    def description(self) -> dict[str, Any]:
        """What it is; the hash covers names and sizes of the files (contents would take long on large sets)."""
        files = [path for _, *both in self._pairs for path in both if path is not None]
        listing = "".join(f"{path.relative_to(self.root).as_posix()} {path.stat().st_size}\n" for path in files)
        return {
            "kind": "dataset",
            "name": self.layout.title,
            "path": str(self.root),
            "listing_sha256": sha256_text(listing),
            "frames": len(self),
            "is_drive": False,
        }

    @property
    def names(self) -> list[str]:
        """The frames' names, by index."""
        return [key for key, _, _ in self._pairs]

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._pairs)

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Yield those of the frames with these indices that can be read; `faults` has the others."""
        for index in indices:
            frame = self._frame(index)
            if frame is not None:
                yield frame

    def _frame(self, index: int) -> Frame | None:
        key, image_path, label_path = self._pairs[index]
        labels = None
        if label_path is not None:
            needed = not self._with_unlabelled
            labels = self._read(index, key, "label", lambda: self._labels(label_path), left_out=needed)
            if labels is None and needed:
                return None
        image = self._read(index, key, "image", lambda: read_picture(image_path, as_stored=True))
        if image is None:
            return None
        if labels is None and self.layout.is_normal(key):
            labels = np.zeros(image.shape[:2], np.uint8)
        return Frame(index, key, image, labels)

    def _labels(self, path: Path) -> NDArray[np.uint8]:
        values = read_label_values(path)
        try:
            return self.layout.mapping.apply(values)
        except Vl4adError as error:
            raise Vl4adError(f"{path}: {error}.") from error


def require_whole(source: DatasetSource) -> None:
    """Refuse what was read of a data set where frames were left out: rows of one table must be of the same frames."""
    if source.faults:
        raise Vl4adError(f"{source.layout.title}: {' '.join(fault_sentences(source.faults, len(source)))}")
