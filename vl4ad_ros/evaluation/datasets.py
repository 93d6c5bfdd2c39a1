"""Folders of images and labels, and stored score maps, as sources of frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vl4ad_ros.errors import Vl4adError
from vl4ad_ros.evaluation.frames import Frame
from vl4ad_ros.evaluation.image_files import read_label_values, read_rgb
from vl4ad_ros.evaluation.layouts import Layout, find_pairs
from vl4ad_ros.hashing import sha256_text


class DatasetSource:
    """A benchmark's folder.

    Attributes:
        root: The folder.
        layout: Its file names and what its labels mean.
        problems: Sentences on files that lack a partner.
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
        pairs, self.problems = find_pairs(root, layout)
        self._pairs = [pair for pair in pairs if with_unlabelled or pair[2] is not None]
        if not self._pairs:
            raise Vl4adError(f"{root}: no image of {layout.title} has a label. {' '.join(self.problems)}")

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
            "frames": len(self._pairs),
            "is_drive": False,
        }

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._pairs)

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Yield the frames with these indices.

        Raises:
            Vl4adError: If a file cannot be read; the sentence names it.
        """
        for index in indices:
            key, image_path, label_path = self._pairs[index]
            labels = None
            if label_path is not None:
                values = read_label_values(label_path)
                try:
                    labels = self.layout.mapping.apply(values)
                except Vl4adError as error:
                    raise Vl4adError(f"{label_path}: {error}.") from error
            yield Frame(index, key, read_rgb(image_path), labels)
