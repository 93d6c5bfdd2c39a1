"""Named cut-outs: pictures whose class name is known, freed from their background once and kept in a cache.

The pictures carry no masks. GrabCut (Rother et al., 2004), started from the centred rectangle, finds the thing that
fills the picture; where it finds nothing plausible, an ellipse is used instead, so that every class is seen.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import socket
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import read_npz
from vl4ad_ros.io.labels import read_label_values
from vl4ad_ros.io.media import PICTURES, read_picture

CACHE_VERSION = 1

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Cutouts:
    """All cut-outs of a set.

    Attributes:
        names: class names, as text.
        classes: index into `names` of each cut-out, int [n].
        pictures: RGBA, uint8 [h,w,4]; alpha is the soft mask.
    """

    names: tuple[str, ...]
    classes: npt.NDArray[np.int64]
    pictures: tuple[UInt8, ...]

    def of_class(self, index: int) -> npt.NDArray[np.int64]:
        """Indices of the cut-outs of one class."""
        return np.flatnonzero(self.classes == index)

    def __add__(self, other: Cutouts) -> Cutouts:
        """Both sets; what has the same name is one class."""
        names = tuple(sorted({*self.names, *other.names}))
        position = {name: index for index, name in enumerate(names)}
        classes = [position[part.names[index]] for part in (self, other) for index in part.classes]
        return Cutouts(names, np.array(classes, np.int64), self.pictures + other.pictures)


def plain_name(folder: str) -> str:
    """``wood_rabbit``, ``wood-rabbit`` -> ``wood rabbit``: the text of a class."""
    return folder.replace("_", " ").replace("-", " ").strip().lower()


def list_pictures(root: Path, per_class: int, exclude: frozenset[str], seed: int) -> list[tuple[str, Path]]:
    """Pictures of ``root/<class>/*.jpg`` and ``root/<class>.jpg``, at most `per_class` of a class, chosen by seed.

    Raises:
        Vl4adError: there is no picture.
    """
    by_name: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in PICTURES:
            folder = path.stem if path.parent == root else path.parent.name
            by_name.setdefault(plain_name(folder), []).append(path)
    if not by_name:
        raise Vl4adError(f"{root}: no named pictures (expected <class>/*.jpg or <class>.jpg)")
    pairs: list[tuple[str, Path]] = []
    for name in sorted(by_name):
        if name in exclude:
            continue
        paths = by_name[name]
        picked = random.Random(f"{seed}-{name}").sample(paths, min(per_class, len(paths)))
        pairs.extend((name, path) for path in sorted(picked))
    return pairs


def cut_out(picture: UInt8, longest: int) -> UInt8:
    """Free the central thing of a picture.

    Args:
        picture: RGB uint8 [h,w,3].
        longest: the longer side of the result before cropping, pixels.

    Returns:
        RGBA uint8, cropped to the thing.
    """
    height, width = picture.shape[:2]
    factor = min(1.0, longest / max(height, width))
    size = (max(8, round(width * factor)), max(8, round(height * factor)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    height, width = small.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    margin_x, margin_y = max(2, width // 16), max(2, height // 16)
    rectangle = (margin_x, margin_y, width - 2 * margin_x, height - 2 * margin_y)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(small, mask, rectangle, background, foreground, 3, cv2.GC_INIT_WITH_RECT)
    found = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    found = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(found)
    share = 0.0
    if count > 1:
        largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        found = (labels == largest).astype(np.uint8)
        share = float(found.mean())
    if not 0.08 <= share <= 0.8:
        found = np.zeros((height, width), np.uint8)
        cv2.ellipse(found, (width // 2, height // 2), (int(width * 0.36), int(height * 0.36)), 0, 0, 360, 1, -1)
    alpha = cv2.GaussianBlur((found * 255).astype(np.uint8), (3, 3), 0)
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.ascontiguousarray(np.dstack([small, alpha])[window])


def _cut_file(job: tuple[Path, int]) -> UInt8 | str:
    """The cut-out, or a sentence."""
    path, longest = job
    cv2.setNumThreads(1)
    try:
        data = path.read_bytes()
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    # From memory: where the end of the file is missing, `imread` returns the part that is there.
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if picture is None:
        return f"{path} is no image that can be read ({len(data)} bytes)"
    return cut_out(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(np.uint8), longest)


def make_cutouts(
    roots: list[Path],
    per_class: int,
    exclude: frozenset[str],
    longest: int,
    seed: int,
    cache: Path,
    workers: int = 2,
) -> tuple[Cutouts, list[str]]:
    """Cut-outs of all roots, from the cache where it was made with the same settings.

    Returns:
        The good cut-outs, and one sentence for each picture that cannot be read; only a whole set is kept.

    Raises:
        Vl4adError: a root has no pictures, or all are excluded.
    """
    if not roots:
        return Cutouts((), np.zeros(0, np.int64), ()), []
    pairs = [pair for root in roots for pair in list_pictures(root, per_class, exclude, seed)]
    if not pairs:
        raise Vl4adError("objects: 'exclude' leaves no name of those in 'roots'")
    described = json.dumps([CACHE_VERSION, longest, [(name, str(path)) for name, path in pairs]])
    file = cache / f"cutouts-{hashlib.sha256(described.encode()).hexdigest()[:12]}.npz"
    kept = _load(file)
    if kept is not None:
        return kept, []
    # Spawned: OpenCV's threads do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        results = list(pool.map(_cut_file, [(path, longest) for _, path in pairs], chunksize=16))
    errors = [result for result in results if isinstance(result, str)]
    good = [(name, result) for (name, _), result in zip(pairs, results, strict=True) if not isinstance(result, str)]
    names = tuple(sorted({name for name, _ in good}))
    position = {name: index for index, name in enumerate(names)}
    cutouts = Cutouts(names, np.array([position[name] for name, _ in good]), tuple(picture for _, picture in good))
    if good and not errors:
        _keep(cutouts, file)
    return cutouts, errors


def read_masked(root: Path, longest: int, exclude: frozenset[str]) -> tuple[Cutouts, list[str]]:
    """Cut-outs with masks of their own: `images/<class>_*.jpg` with `labels/<same>.png`, not 0 where the thing is.

    Returns:
        The good cut-outs, and one sentence for each that cannot be read.

    Raises:
        Vl4adError: a folder is missing or empty.
    """
    images, labels = root / "images", root / "labels"
    paths = sorted(path for path in images.glob("*") if path.suffix.lower() in PICTURES)
    if not paths or not labels.is_dir():
        raise Vl4adError(f"{root}: no cut-outs (expected images/<class>_*.jpg and labels/<same>.png)")
    named: list[tuple[str, UInt8]] = []
    errors: list[str] = []
    for path in paths:
        name = plain_name(path.stem.split("_")[0])
        if name in exclude:
            continue
        try:
            picture, mask = read_picture(path, as_stored=True), read_label_values(labels / f"{path.stem}.png") > 0
            if picture.shape[:2] != mask.shape or not mask.any():
                raise Vl4adError(f"{path}: its mask is empty or of another size")
        except Vl4adError as error:
            errors.append(str(error))
            continue
        named.append((name, rgba(picture, mask, longest)))
    names = tuple(sorted({name for name, _ in named}))
    position = {name: index for index, name in enumerate(names)}
    classes = np.array([position[name] for name, _ in named], np.int64)
    return Cutouts(names, classes, tuple(picture for _, picture in named)), errors


def rgba(picture: UInt8, mask: npt.NDArray[np.bool_], longest: int) -> UInt8:
    """A thing with its mask, cropped to it, its longer side at most `longest` pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    cut = np.dstack([picture[window], mask[window].astype(np.uint8) * 255])
    factor = longest / max(cut.shape[:2])
    if factor < 1:
        size = (max(1, round(cut.shape[1] * factor)), max(1, round(cut.shape[0] * factor)))
        cut = cv2.resize(cut, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(cut, dtype=np.uint8)


def known_things(
    images: Sequence[UInt8], rows: Sequence[UInt8], of: tuple[int, ...], longest: int, smallest: int = 20
) -> list[tuple[UInt8, int]]:
    """Things of the classes, cut out of labelled frames: whole components that do not touch the frame's edge.

    Args:
        images: RGB frames.
        rows: their label rows.
        of: rows whose components are things.
        longest: longer side of a cut-out, pixels.
        smallest: least height and width, pixels.

    Returns:
        RGBA with the row of the label.
    """
    things: list[tuple[UInt8, int]] = []
    for image, label in zip(images, rows, strict=True):
        height, width = label.shape
        for row in of:
            if not (label == row).any():
                continue
            count, components, stats, _ = cv2.connectedComponentsWithStats((label == row).astype(np.uint8))
            for index in range(1, count):
                x, y, w, h, area = (int(value) for value in stats[index])
                inside = x > 1 and y > 1 and x + w < width - 1 and y + h < height - 1
                if inside and smallest <= min(w, h) >= max(w, h) / 4 and area > 0.5 * w * h:
                    window = np.s_[y : y + h, x : x + w]
                    things.append((rgba(image[window], components[window] == index, longest), row))
    return things


def _keep(cutouts: Cutouts, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # Under a name of this process's own: others of the run may write the same file, and a kill leaves no half one.
    part = file.with_suffix(f".{socket.gethostname()}-{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            np.savez(
                stream,
                names=np.array(cutouts.names),
                classes=cutouts.classes,
                shapes=np.array([picture.shape[:2] for picture in cutouts.pictures]),
                pixels=np.concatenate([picture.reshape(-1) for picture in cutouts.pictures]),
            )
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _load(file: Path) -> Cutouts | None:
    """The kept cut-outs; None where there are none, or the file is damaged and has to be made again."""
    try:
        return _unpack(read_npz(file, ("names", "classes", "shapes", "pixels")))
    except (Vl4adError, ValueError):
        return None


def _unpack(stored: dict[str, npt.NDArray[Any]]) -> Cutouts:
    names = tuple(str(name) for name in stored["names"])
    shapes, pixels = stored["shapes"], stored["pixels"]
    ends = np.cumsum(shapes[:, 0] * shapes[:, 1] * 4)
    starts = np.concatenate([[0], ends[:-1]])
    pictures = tuple(
        pixels[start:end].reshape(height, width, 4)
        for start, end, (height, width) in zip(starts, ends, shapes, strict=True)
    )
    return Cutouts(names, stored["classes"], pictures)
