"""The labels of known layouts, and the table that maps every set's labels to the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vl4ad_ros.io.errors import Vl4adError

if TYPE_CHECKING:
    from vl4ad_ros.training.config import DataSet

CITYSCAPES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""`labelIds` value of each train id (cityscapesScripts, labels.py)."""

# SegNet's 11 classes; each merges several of the original 32 (Badrinarayanan et al., 2015).
CAMVID = (
    ("sky",), ("building", "wall"), ("pole",), ("road",), ("sidewalk",), ("vegetation", "terrain"),
    ("traffic sign", "traffic light"), ("fence",), ("car", "truck", "bus", "train"), ("person",),
    ("rider", "bicycle", "motorcycle"),
)  # fmt: skip

IGNORE = 255
"""Row index of pixels without supervision."""

# Label value -> classes, and the values that are in none of them; 255 is also the licence plate's -1 in eight bits.
Labels = tuple[dict[int, tuple[str, ...]], frozenset[int]]
BUILT_IN: dict[tuple[str, str], Labels] = {
    ("cityscapes", "labelIds"): (
        {value: (name,) for value, name in zip(CITYSCAPES_IDS, CITYSCAPES, strict=True)},
        frozenset({*range(34), 255}) - frozenset(CITYSCAPES_IDS),
    ),
    ("cityscapes", "labelTrainIds"): ({value: (name,) for value, name in enumerate(CITYSCAPES)}, frozenset({255})),
    ("camvid", "labelIds"): (dict(enumerate(CAMVID)), frozenset({11, 255})),
}


@dataclass(frozen=True)
class LabelTable:
    """What each label of each set stands for.

    A *row* is one distinct union of classes. Label maps are stored as row indices; row `void` stands for things that
    are none of the classes.
    """

    classes: tuple[str, ...]  # the vocabulary's class names, K
    rows: npt.NDArray[np.bool_]  # bool [R,K]; the last row, `void`, is all false
    # Per set: uint8 [256], label value -> row, 255 for labels without supervision.
    lookup: tuple[npt.NDArray[np.uint8], ...]

    @property
    def void(self) -> int:
        """The row of things outside the vocabulary."""
        return len(self.rows) - 1

    def rows_of_set(self, index: int) -> list[int]:
        """The rows that the labels of a set stand for."""
        return [row for row in np.unique(self.lookup[index]).tolist() if row != IGNORE]

    def rows_within(self, names: Sequence[str]) -> tuple[int, ...]:
        """Rows that stand for nothing but some of these classes."""
        inside = np.isin(self.classes, names)
        return tuple(row for row in range(self.void) if not self.rows[row][~inside].any())

    def single_rows(self) -> npt.NDArray[np.uint8]:
        """The row that stands for each class alone, uint8 [K]; IGNORE where there is none."""
        single = np.full(len(self.classes), IGNORE, np.uint8)
        for row in np.flatnonzero(self.rows.sum(1) == 1):
            single[self.rows[row].argmax()] = row
        return single


def make_label_table(classes: tuple[str, ...], sets: Sequence[DataSet]) -> LabelTable:
    """Join the tables of some sets."""
    rows: dict[frozenset[str], int] = {}
    lookups = []
    for data in sets:
        lookup = np.full(256, IGNORE, np.uint8)
        for value, names in sorted(data.label_classes().items()):
            unknown = [name for name in names if name not in classes]
            if unknown:
                raise Vl4adError(
                    f"data set '{data.name}' maps label {value} to the unknown class '{unknown[0]}'; "
                    f"the vocabulary has {', '.join(classes)}"
                )
            lookup[value] = rows.setdefault(frozenset(names), len(rows))
        lookups.append(lookup)
    members = [[name in row for name in classes] for row in rows] + [[False] * len(classes)]
    return LabelTable(classes, np.array(members), tuple(lookups))
