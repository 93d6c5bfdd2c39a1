"""The label tables of known layouts, and the table that maps every set's labels to the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vl4ad_ros.io.errors import Vl4adError

CITYSCAPES_TRAIN_IDS = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
CITYSCAPES_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""`labelIds` value of each train id (cityscapesScripts, labels.py)."""

CAMVID = {
    0: ("sky",),
    1: ("building", "wall"),
    2: ("pole",),
    3: ("road",),
    4: ("sidewalk",),
    5: ("vegetation", "terrain"),
    6: ("traffic sign", "traffic light"),
    7: ("fence",),
    8: ("car", "truck", "bus", "train"),
    9: ("person",),
    10: ("rider", "bicycle", "motorcycle"),
}
"""SegNet's 11 classes of CamVid; each merges several of the original 32 (Badrinarayanan et al., 2015)."""

CITYSCAPES_LICENCE_PLATE = 255
"""`labelIds` value -1 in eight bits."""

BUILT_IN_TABLES = ("camvid", "cityscapes")
IGNORE = 255
"""Row index of pixels without supervision."""


def built_in_table(layout: str, kind: str) -> dict[int, tuple[str, ...]]:
    """Label value -> classes of a layout.

    Args:
        layout: `camvid` or `cityscapes`.
        kind: for Cityscapes `labelIds` or `labelTrainIds`.
    """
    if layout == "camvid":
        return dict(CAMVID)
    values = CITYSCAPES_LABEL_IDS if kind == "labelIds" else tuple(range(len(CITYSCAPES_TRAIN_IDS)))
    return {value: (name,) for value, name in zip(values, CITYSCAPES_TRAIN_IDS, strict=True)}


def built_in_ignore(layout: str, kind: str) -> frozenset[int]:
    """Label values of a layout that are in none of its classes; arguments as of `built_in_table`."""
    if layout == "camvid":
        return frozenset({11, 255})
    if kind == "labelTrainIds":
        return frozenset({255})
    return frozenset(range(34)) - frozenset(CITYSCAPES_LABEL_IDS) | {CITYSCAPES_LICENCE_PLATE}


@dataclass(frozen=True)
class LabelTable:
    """What each label of each set stands for.

    A *row* is one distinct union of classes. Label maps are stored as row indices; row `void` stands for things that
    are none of the classes.

    Attributes:
        classes: the vocabulary's class names, K.
        rows: bool [R,K]; the last row, `void`, is all false.
        lookup: per set: uint8 [256], label value -> row, 255 for labels that are ignored.
        known: per set: the label values that are mapped or ignored on purpose.
        labels: per set: (label value, row) of its classes in the order of their values.
    """

    classes: tuple[str, ...]
    rows: npt.NDArray[np.bool_]
    lookup: tuple[npt.NDArray[np.uint8], ...]
    known: tuple[frozenset[int], ...]
    labels: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def void(self) -> int:
        """The row of things outside the vocabulary."""
        return len(self.rows) - 1


def make_label_table(
    classes: tuple[str, ...], sets: list[tuple[str, dict[int, tuple[str, ...]], frozenset[int]]]
) -> LabelTable:
    """Join the sets' tables.

    Args:
        classes: the vocabulary's class names.
        sets: per set its name, label value -> classes, and ignored label values.

    Raises:
        Vl4adError: a table names a class that the vocabulary lacks.
    """
    position = {name: index for index, name in enumerate(classes)}
    rows: dict[tuple[int, ...], int] = {}
    lookups, knowns, labels = [], [], []
    for set_name, table, ignore in sets:
        lookup = np.full(256, IGNORE, np.uint8)
        own: list[tuple[int, int]] = []
        for value in sorted(table):
            unknown = [name for name in table[value] if name not in position]
            if unknown:
                raise Vl4adError(
                    f"data set '{set_name}' maps label {value} to the unknown class '{unknown[0]}'; "
                    f"the vocabulary has {', '.join(classes)}"
                )
            key = tuple(sorted(position[name] for name in table[value]))
            lookup[value] = rows.setdefault(key, len(rows))
            own.append((value, int(lookup[value])))
        lookups.append(lookup)
        knowns.append(frozenset(table) | ignore)
        labels.append(tuple(own))
    matrix = np.zeros((len(rows) + 1, len(classes)), bool)
    for key, index in rows.items():
        matrix[index, list(key)] = True
    return LabelTable(classes, matrix, tuple(lookups), tuple(knowns), tuple(labels))
