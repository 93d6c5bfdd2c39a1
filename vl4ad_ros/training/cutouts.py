"""Named cut-outs: things whose class name is known, freed from their background.

Pictures without masks are cut out once and cached: GrabCut (Rother et al., 2004) from the centred rectangle; where that
finds nothing plausible, an ellipse, so that every class is seen.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import sha256_text
from vl4ad_ros.io.labels import read_label_values
from vl4ad_ros.io.media import read_picture
from vl4ad_ros.training.config import Objects
from vl4ad_ros.training.frames import Frames, list_pictures, read_cache, read_each, write_cache

CACHE_VERSION = 2
MIN_SIDE = 20
"""Least height and width of a thing that is cut out of a labelled frame, pixels."""

UInt8 = npt.NDArray[np.uint8]
Named = tuple[str, Path]


@dataclass(frozen=True)
class Cutouts:
    """All cut-outs of a run."""

    names: tuple[str, ...]  # class names, as text, sorted
    classes: npt.NDArray[np.int64]  # index into `names` of each cut-out, int [n]
    pictures: tuple[UInt8, ...]  # RGBA, uint8 [h,w,4]; alpha is the soft mask

    def of_class(self, index: int) -> npt.NDArray[np.int64]:
        """Indices of the cut-outs of one class."""
        return np.flatnonzero(self.classes == index)


def plain_name(folder: str) -> str:
    """``wood_rabbit``, ``wood-rabbit`` -> ``wood rabbit``: the text of a class."""
    return folder.replace("_", " ").replace("-", " ").strip().lower()


def load_cutouts(objects: Objects, data_root: Path, cache: Path, seed: int) -> tuple[Cutouts, list[str]]:
    """Cut-outs of all folders, and one sentence for each picture that cannot be read."""
    exclude = {plain_name(name) for name in objects.exclude}

    def wanted(pairs: list[Named]) -> list[Named]:
        return [pair for pair in pairs if pair[0] not in exclude]

    free = [pair for root in objects.roots for pair in _choose(wanted(_named(data_root / root)), objects, seed)]
    masked = wanted([pair for root in objects.masked for pair in _masked(data_root / root)])
    if not free and not masked:
        raise Vl4adError("objects: 'exclude' leaves no name")
    described = json.dumps([CACHE_VERSION, objects.longest, [str(path) for _, path in free]])
    file = cache / f"cutouts-{sha256_text(described)[:12]}.npz"
    pictures, errors = read_cache(file, len(free)), list[str]()
    if free and pictures is None:
        pictures, errors = read_each(lambda path: cut_out(read_picture(path), objects.longest), [p for _, p in free])
        if not errors:
            write_cache(file, pictures)
    cut, unreadable = read_each(lambda path: _cut_masked(path, objects.longest), [path for _, path in masked])
    labels = [name for name, _ in (*free, *masked)]
    names, classes = np.unique(labels, return_inverse=True)
    return Cutouts(tuple(names.tolist()), classes, (*(pictures or ()), *cut)), errors + unreadable


def _named(root: Path) -> list[Named]:
    pairs = [(plain_name(p.stem if p.parent == root else p.parent.name), p) for p in list_pictures(root)]
    if not pairs:
        raise Vl4adError(f"{root}: no named pictures (expected <class>/*.jpg or <class>.jpg)")
    return pairs


def _choose(pairs: list[Named], objects: Objects, seed: int) -> list[Named]:
    """At most `per_class` pictures of each name."""
    chosen: list[Named] = []
    for name, group in itertools.groupby(sorted(pairs), lambda pair: pair[0]):
        own = list(group)
        chosen += sorted(random.Random(f"{seed}-{name}").sample(own, min(objects.per_class, len(own))))
    return chosen


def _masked(root: Path) -> list[Named]:
    pairs = [(plain_name(path.stem.split("_")[0]), path) for path in list_pictures(root / "images")]
    if not pairs or not (root / "labels").is_dir():
        raise Vl4adError(f"{root}: no cut-outs (expected images/<class>_*.jpg and labels/<same>.png)")
    return pairs


def _cut_masked(path: Path, longest: int) -> UInt8:
    picture = read_picture(path, as_stored=True)
    mask = read_label_values(path.parents[1] / "labels" / f"{path.stem}.png") > 0
    if picture.shape[:2] != mask.shape or not mask.any():
        raise Vl4adError(f"{path}: its mask is empty or of another size")
    return _cropped(picture, mask.astype(np.uint8) * 255, longest)


def cut_out(picture: UInt8, longest: int) -> UInt8:
    """The central thing of an RGB picture as RGBA, cropped to it; the picture's longer side is `longest` before."""
    height, width = picture.shape[:2]
    factor = min(1.0, longest / max(height, width))
    width, height = max(8, round(width * factor)), max(8, round(height * factor))
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    mask = np.zeros((height, width), np.uint8)
    x, y = max(2, width // 16), max(2, height // 16)
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(small, mask, (x, y, width - 2 * x, height - 2 * y), *models, 3, cv2.GC_INIT_WITH_RECT)
    found = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    found = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)).astype(np.uint8)
    count, components, stats, _ = cv2.connectedComponentsWithStats(found)
    if count > 1:
        found = (components == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))).astype(np.uint8)
    if not 0.08 <= found.mean() <= 0.8:
        found = np.zeros((height, width), np.uint8)
        cv2.ellipse(found, (width // 2, height // 2), (int(width * 0.36), int(height * 0.36)), 0, 0, 360, 1, -1)
    return _cropped(small, cv2.GaussianBlur((found * 255).astype(np.uint8), (3, 3), 0).astype(np.uint8), longest)


def _cropped(picture: UInt8, alpha: UInt8, longest: int) -> UInt8:
    """RGBA of the opaque part, its longer side at most `longest` pixels."""
    x, y, width, height = cv2.boundingRect((alpha > 127).astype(np.uint8))
    cut = np.dstack([picture, alpha])[y : y + height, x : x + width].astype(np.uint8)
    factor = longest / max(height, width)
    if factor < 1:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        cut = cv2.resize(cut, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return np.ascontiguousarray(cut)


def known_things(frames: Frames, rows: Sequence[int], longest: int) -> list[tuple[UInt8, int]]:
    """Whole things of some rows of the label table: RGBA, its longer side at most `longest` pixels, and the row."""
    things: list[tuple[UInt8, int]] = []
    for image, label in zip(frames.images, frames.rows, strict=True):
        height, width = label.shape
        for row in sorted(set(rows) & set(np.unique(label).tolist())):
            count, components, stats, _ = cv2.connectedComponentsWithStats((label == row).astype(np.uint8))
            for index in range(1, count):
                x, y, w, h, area = (int(value) for value in stats[index])
                inside = x > 1 and y > 1 and x + w < width - 1 and y + h < height - 1
                if inside and MIN_SIDE <= min(w, h) >= max(w, h) / 4 and area > 0.5 * w * h:
                    mask = (components[y : y + h, x : x + w] == index).astype(np.uint8) * 255
                    things.append((_cropped(image[y : y + h, x : x + w], mask, longest), row))
    return things
