"""Finding and reading labelled frames, and the list of everything that is wrong with them before training starts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.labels import read_label_values
from vl4ad_ros.io.media import PICTURES, read_picture
from vl4ad_ros.training.config import DataSet

MOST_LISTED = 20
MOST_LABELS = 5
UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class FramePair:
    """One frame: paths of picture and label map."""

    image: Path
    label: Path


@dataclass(frozen=True)
class Frames:
    """All frames of a set, in memory.

    Attributes:
        images: RGB uint8 [H,W,3] each.
        rows: uint8 [H,W] each, row of the label table or 255.
    """

    images: tuple[UInt8, ...]
    rows: tuple[UInt8, ...]

    def __len__(self) -> int:
        return len(self.images)


def _folders(data: DataSet, data_root: Path) -> tuple[Path, Path]:
    root = data_root / data.root
    if data.layout == "cityscapes":
        images, labels = root / "leftImg8bit" / data.split, root / "gtFine" / data.split
    elif data.layout == "camvid":
        images, labels = root / data.split / "images", root / data.split / "labels"
    else:
        images, labels = root / "images", root / "labels"
    for folder in (images, labels):
        if not folder.is_dir():
            raise Vl4adError(f"data set '{data.name}': the folder {folder} does not exist (layout '{data.layout}')")
    return images, labels


def find_pairs(data: DataSet, data_root: Path) -> list[FramePair]:
    """Pairs of picture and label map, sorted.

    Raises:
        Vl4adError: a folder is missing or there is no picture in it.
    """
    images, labels = _folders(data, data_root)
    pairs: list[FramePair] = []
    for image in sorted(path for path in images.rglob("*") if path.suffix.lower() in PICTURES):
        if data.layout == "cityscapes":
            stem = image.name.removesuffix("_leftImg8bit" + image.suffix)
            label = labels / image.relative_to(images).parent / f"{stem}_gtFine_{data.labels}.png"
        else:
            label = (labels / image.relative_to(images)).with_suffix(".png")
        pairs.append(FramePair(image, label))
    if not pairs:
        raise Vl4adError(f"data set '{data.name}': no pictures in {images}")
    return pairs


def lone_labels(data: DataSet, data_root: Path) -> list[Path]:
    """Label maps without a picture, sorted: worth a word, but no fault (people take pictures out on purpose).

    Raises:
        Vl4adError: as `find_pairs`.
    """
    paired = {pair.label for pair in find_pairs(data, data_root)}
    ending = f"_gtFine_{data.labels}.png" if data.layout == "cityscapes" else ".png"
    return sorted(path for path in _folders(data, data_root)[1].rglob(f"*{ending}") if path not in paired)


def read_frame(pair: FramePair, known: frozenset[int]) -> tuple[UInt8, UInt8]:
    """Picture (RGB) and label map at their own size; a palette's indices are the labels.

    Raises:
        Vl4adError: a file is missing or unreadable, sizes differ, or the map has an unknown label.
    """
    if not pair.label.is_file():
        raise Vl4adError(f"{pair.image}: its label map {pair.label} does not exist")
    image, label = read_picture(pair.image, as_stored=True), read_label_values(pair.label)
    if image.shape[:2] != label.shape:
        raise Vl4adError(f"{pair.label}: size {label.shape} differs from the picture's {image.shape[:2]}")
    if label.max() > 0xFFFF:
        raise Vl4adError(f"{pair.label}: a colour mask; expected one label value per pixel (a palette will do)")
    # Counting is many times faster than sorting where the values are small, and they nearly always are.
    small = label.min() >= 0 and label.max() < 256
    present = np.flatnonzero(np.bincount(label.reshape(-1))) if small else np.unique(label)
    unknown = sorted(set(present.tolist()) - known)
    if unknown:
        listed = ", ".join(map(str, unknown[:MOST_LABELS])) + (", ..." if len(unknown) > MOST_LABELS else "")
        raise Vl4adError(f"{pair.label}: unknown label {listed} (neither of the set's classes nor in 'ignore')")
    return image, label.astype(np.uint8)


def load_frames(
    data: DataSet, data_root: Path, lookup: UInt8, known: frozenset[int], most: int | None = None
) -> tuple[Frames, list[str]]:
    """Read a set into memory, no larger than its `max_side`.

    Args:
        data: the set.
        data_root: folder that its root starts from.
        lookup: uint8 [256], label value -> row.
        known: allowed label values.
        most: at most so many frames, evenly spaced.

    Returns:
        The good frames, and one sentence for each bad one.
    """
    pairs = find_pairs(data, data_root)
    first, last = (round(share * len(pairs)) for share in data.part)
    pairs = pairs[first:last]
    if most is not None and len(pairs) > most:
        pairs = [pairs[round(index)] for index in np.linspace(0, len(pairs) - 1, most)]

    def read(pair: FramePair) -> tuple[UInt8, UInt8] | str:
        try:
            image, label = read_frame(pair, known)
        except Vl4adError as error:
            return str(error)
        factor = data.max_side / max(label.shape)
        if factor < 1:
            size = (round(label.shape[1] * factor), round(label.shape[0] * factor))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
            label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST).astype(np.uint8)
        return image, lookup[label]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(read, pairs))
    errors = [result for result in results if isinstance(result, str)]
    good = [result for result in results if not isinstance(result, str)]
    return Frames(tuple(image for image, _ in good), tuple(rows for _, rows in good)), errors


def refuse(errors: list[str]) -> None:
    """Raise one error that lists what is wrong with the data.

    Raises:
        Vl4adError: there is at least one.
    """
    if errors:
        listed = "\n  ".join(errors[:MOST_LISTED])
        more = f"\n  and {len(errors) - MOST_LISTED} more" if len(errors) > MOST_LISTED else ""
        raise Vl4adError(f"{len(errors)} data errors; training has not started:\n  {listed}{more}")
