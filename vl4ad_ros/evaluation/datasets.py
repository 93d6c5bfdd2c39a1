"""Folders of images and labels, and stored score maps, as sources of frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.frames import Fault, Frame, fault_sentences
from vl4ad_ros.evaluation.layouts import Layout, find_pairs
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import sha256_text
from vl4ad_ros.io.labels import read_label_values
from vl4ad_ros.io.media import read_picture


class DatasetSource:
    """A benchmark's folder.

    Attributes:
        root: The folder.
        layout: Its file names and what its labels mean.
        found: Sentences on files that lack a partner.
        faults: Frame index -> what could not be read, so far.
    """

    def __init__(self, root: Path, layout: Layout, with_unlabelled: bool = False) -> None:
        """Find the files.

        Args:
            root: The data set's folder.
            layout: Its file names.
            with_unlabelled: Whether to yield images without labels too (for submissions).

        Raises:
            Vl4adError: If the folder is missing or holds nothing that fits.
        """
        self.root, self.layout = root, layout
        self.faults: dict[int, Fault] = {}
        self._with_unlabelled = with_unlabelled
        pairs, self.found = find_pairs(root, layout)
        self._pairs = [pair for pair in pairs if with_unlabelled or pair[2] is not None or layout.is_normal(pair[0])]
        if not self._pairs:
            raise Vl4adError(f"{root}: no image of {layout.title} has a label. {' '.join(self.found)}")

    @property
    def problems(self) -> list[str]:
        """Sentences on what could not be used, so far."""
        return self.found + fault_sentences(self.faults, len(self))

    @property
    def description(self) -> dict[str, Any]:
        """What it is; the hash covers names and sizes of the files (contents would take long on large sets)."""
        files = self._files()
        listing = "".join(f"{path.relative_to(self.root).as_posix()} {path.stat().st_size}\n" for path in files)
        return {
            "kind": "dataset",
            "name": self.layout.title,
            "path": str(self.root),
            "listing_sha256": sha256_text(listing),
            "frames": len(self._pairs),
            "is_drive": False,
        }

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._pairs)

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Yield those of the frames with these indices that can be read; `faults` has the others."""
        for index in indices:
            key, image_path, label_path = self._pairs[index]
            labels = None
            if label_path is not None:
                try:
                    labels = self._labels(label_path)
                except Vl4adError as error:
                    self.faults[index] = Fault(key, "label", str(error), left_out=not self._with_unlabelled)
                    if not self._with_unlabelled:
                        continue
            try:
                image = read_picture(image_path, as_stored=True)
            except Vl4adError as error:
                self.faults[index] = Fault(key, "image", str(error))
                continue
            if labels is None and self.layout.is_normal(key):
                labels = np.zeros(image.shape[:2], np.uint8)
            yield Frame(index, key, image, labels)

    def _labels(self, path: Path) -> NDArray[np.uint8]:
        values = read_label_values(path)
        try:
            return self.layout.mapping.apply(values)
        except Vl4adError as error:
            raise Vl4adError(f"{path}: {error}.") from error

    def _files(self) -> list[Path]:
        return [path for _, *both in self._pairs for path in both if path is not None]


def require_whole(source: DatasetSource) -> None:
    """Refuse what was read of a data set where frames were left out: rows of one table must be of the same frames.

    Raises:
        Vl4adError: A frame could not be read.
    """
    if source.faults:
        raise Vl4adError(f"{source.layout.title}: {' '.join(fault_sentences(source.faults, len(source)))}")
