"""Labelled frames of a data set, and reading many files in threads, with all that is wrong in a list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import atomic_write, read_npz
from vl4ad_ros.io.labels import read_label_values
from vl4ad_ros.io.media import PICTURES, read_picture
from vl4ad_ros.training.config import DataSet

Job = TypeVar("Job")
Result = TypeVar("Result")
MAX_LISTED = 20
THREADS = 4


def list_pictures(folder: Path) -> list[Path]:
    """The picture files in and below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)


def read_each(read: Callable[[Job], Result], jobs: Sequence[Job]) -> tuple[list[Result], list[str]]:
    """What a function makes of each job, and one sentence for each that raises a `Vl4adError`."""

    def attempt(job: Job) -> tuple[Result | None, str | None]:
        try:
            return read(job), None
        except Vl4adError as error:
            return None, str(error)

    with ThreadPoolExecutor(THREADS) as pool:
        pairs = list(pool.map(attempt, jobs))
    return [good for good, _ in pairs if good is not None], [error for _, error in pairs if error is not None]


def refuse(errors: Sequence[str]) -> None:
    """Raise one error that lists what is wrong with the data."""
    if errors:
        listed = "\n  ".join(errors[:MAX_LISTED])
        more = f"\n  and {len(errors) - MAX_LISTED} more" if len(errors) > MAX_LISTED else ""
        raise Vl4adError(f"{len(errors)} data errors; training has not started:\n  {listed}{more}")


def read_cache(file: Path, count: int) -> list[npt.NDArray[Any]] | None:
    """The arrays that `write_cache` kept; None where there are none, or the file is damaged."""
    try:
        return list(read_npz(file, [f"arr_{index}" for index in range(count)]).values())
    except Vl4adError:
        return None


def write_cache(file: Path, arrays: Sequence[npt.NDArray[Any]]) -> None:
    """Keep arrays, whole or not at all: other processes of the run may write the same file."""
    with atomic_write(file) as part, part.open("wb") as stream:
        np.savez(stream, *arrays)


MAX_LABELS = 5
UInt8 = npt.NDArray[np.uint8]
FramePair = tuple[Path, Path]
"""Picture and label map."""


@dataclass(frozen=True)
class Frames:
    """All frames of a set, in memory."""

    images: tuple[UInt8, ...]  # RGB uint8 [H,W,3] each
    rows: tuple[UInt8, ...]  # uint8 [H,W] each, row of the label table or 255
    # Label maps without a picture: worth a note, but no fault (people take pictures out on purpose).
    lone: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.images)


def find_pairs(data: DataSet, data_root: Path) -> tuple[list[FramePair], list[Path]]:
    """Pairs of picture and label map, and label maps without a picture, both sorted."""
    root, ending, label_ending = data_root / data.root, "", ".png"
    if data.layout == "cityscapes":
        images, labels = root / "leftImg8bit" / data.split, root / "gtFine" / data.split
        ending, label_ending = "_leftImg8bit", f"_gtFine_{data.labels}.png"
    else:
        root = root / data.split if data.layout == "camvid" else root
        images, labels = root / "images", root / "labels"
    for folder in (images, labels):
        if not folder.is_dir():
            raise Vl4adError(f"data set '{data.name}': the folder {folder} does not exist (layout '{data.layout}')")

    def label_of(image: Path) -> Path:
        return labels / image.relative_to(images).parent / (image.stem.removesuffix(ending) + label_ending)

    pairs = [(image, label_of(image)) for image in list_pictures(images)]
    if not pairs:
        raise Vl4adError(f"data set '{data.name}': no pictures in {images}")
    paired = {label for _, label in pairs}
    return pairs, sorted(path for path in labels.rglob(f"*{label_ending}") if path not in paired)


def read_frame(pair: FramePair, known: frozenset[int]) -> tuple[UInt8, UInt8]:
    """Picture (RGB) and label map at their own size; a palette's indices are the labels."""
    image_path, label_path = pair
    if not label_path.is_file():
        raise Vl4adError(f"{image_path}: its label map {label_path} does not exist")
    image, label = read_picture(image_path, as_stored=True), read_label_values(label_path)
    if image.shape[:2] != label.shape:
        raise Vl4adError(f"{label_path}: size {label.shape} differs from the picture's {image.shape[:2]}")
    if label.max() > 0xFFFF:
        raise Vl4adError(f"{label_path}: a colour mask; expected one label value per pixel (a palette will do)")
    # Counting is many times faster than sorting where the values are small, and they nearly always are.
    small = label.min() >= 0 and label.max() < 256
    present = np.flatnonzero(np.bincount(label.reshape(-1))) if small else np.unique(label)
    unknown = sorted(set(present.tolist()) - known)
    if unknown:
        listed = ", ".join(map(str, unknown[:MAX_LABELS])) + (", ..." if len(unknown) > MAX_LABELS else "")
        raise Vl4adError(f"{label_path}: unknown label {listed} (neither of the set's classes nor in 'ignore')")
    return image, label.astype(np.uint8)


def load_frames(
    data: DataSet, data_root: Path, lookup: UInt8, max_frames: int | None = None
) -> tuple[Frames, list[str]]:
    """Read at most `max_frames`, evenly spaced, no larger than `max_side`; and one sentence for each bad one."""
    pairs, lone = find_pairs(data, data_root)
    first, last = (round(share * len(pairs)) for share in data.part)
    pairs = pairs[first:last]
    if max_frames is not None and len(pairs) > max_frames:
        pairs = [pairs[round(index)] for index in np.linspace(0, len(pairs) - 1, max_frames)]
    known = frozenset(data.label_classes()) | data.ignored_labels()

    def read(pair: FramePair) -> tuple[UInt8, UInt8]:
        image, label = read_frame(pair, known)
        factor = data.max_side / max(label.shape)
        if factor < 1:
            size = (round(label.shape[1] * factor), round(label.shape[0] * factor))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
            label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST).astype(np.uint8)
        return image, lookup[label]

    good, errors = read_each(read, pairs)
    return Frames(tuple(image for image, _ in good), tuple(rows for _, rows in good), tuple(lone)), errors
