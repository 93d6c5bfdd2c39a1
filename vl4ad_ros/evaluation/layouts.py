"""Where the benchmarks keep their images and labels."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.labels import LabelMapping
from vl4ad_ros.io.media import PICTURES

PICTURE = rf"(?:{'|'.join(map(re.escape, PICTURES))})"


@dataclass(frozen=True)
class Layout:
    """A data set's file names. An image and its label share the text that the groups match."""

    title: str
    image: str  # regular expression over the path below the root; its named groups, joined, are the key
    label: str  # likewise, for the labels
    mapping: LabelMapping  # what the labels' values mean
    track: str = "anomaly"  # component sizes that its benchmark uses
    # Whether images without labels are part of the data set as published (test splits, or images that come with a
    # larger set), and so are not missed.
    extra_images: bool = False
    benchmark: str | None = None  # name of the data set in a SegmentMeIfYouCan submission
    # Regular expression of the keys of images that show no anomaly and have no label file; empty for none.
    normal: str = ""
    # Returns the images that count, as paths below the root; None takes all.
    split: Callable[[Path], frozenset[str]] | None = None
    products: bool = False  # whether it is product inspection: the per-region overlap is measured

    def is_normal(self, key: str) -> bool:
        """Return whether an image shows no anomaly by its name alone."""
        return bool(self.normal) and re.fullmatch(self.normal, key) is not None


def visa_split(root: Path) -> frozenset[str]:
    """Return VisA's test pictures by its published split, `split_csv/1cls.csv`, in the root or beside a category."""
    place = "split_csv/1cls.csv"
    base = root if (root / place).is_file() else root.parent
    prefix, table = "" if base == root else f"{root.name}/", base / place
    if not table.is_file():
        raise Vl4adError(f"{root} has no {place}: it is not in VisA's layout.")
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or not {"split", "image"} <= rows[0].keys():
        raise Vl4adError(f"{table} is no split of VisA: it lacks the columns 'split' and 'image'.")
    images = (row["image"] or "" for row in rows if row["split"] == "test")
    return frozenset(image.removeprefix(prefix) for image in images if image.startswith(prefix))


_BINARY = LabelMapping(frozenset({1}), normal=frozenset({0}))
_NONZERO = LabelMapping(frozenset(range(1, 256)), void=frozenset())
_SMIYC = (rf"(?:.*/)?images/(?P<key>[^/]+){PICTURE}", r"(?:.*/)?labels_masks/(?P<key>[^/]+)_labels_semantic\.png")
_FISHY_LABEL = r"(?:.*/)?(?:\d{4}_)?(?P<key>[^/]+)_labels\.png"
_LOST_IMAGE = rf"(?:.*/)?(?P<key>[^/]+)_leftImg8bit{PICTURE}"

LAYOUTS: dict[str, Layout] = {
    "road_anomaly_21": Layout(
        "SegmentMeIfYouCan RoadAnomaly21", *_SMIYC, _BINARY, extra_images=True, benchmark="AnomalyTrack-all"
    ),
    "road_obstacle_21": Layout(
        "SegmentMeIfYouCan RoadObstacle21", *_SMIYC, _BINARY, "obstacle", extra_images=True,
        benchmark="ObstacleTrack-all",
    ),
    "fishyscapes_static": Layout(
        "Fishyscapes Static", rf"(?:.*/)?(?:\d{{4}}_)?(?P<key>[^/]+?)(?:_rgb|_leftImg8bit)?{PICTURE}", _FISHY_LABEL,
        _BINARY, extra_images=True,
    ),
    "fishyscapes_lost_and_found": Layout(
        "Fishyscapes Lost & Found", _LOST_IMAGE, _FISHY_LABEL, _BINARY, "obstacle", extra_images=True
    ),
    "lost_and_found": Layout(
        # 0 = unlabelled, 1 = free space, 2..200 = the objects, above = own bonnet and the like.
        "LostAndFound", _LOST_IMAGE, r"(?:.*/)?(?P<key>[^/]+)_gtCoarse_labelIds\.png",
        LabelMapping(frozenset(range(2, 201)), normal=frozenset({1})), "obstacle",
    ),
    "road_anomaly": Layout(
        # As published (frames/NAME.labels/labels_semantic.png, 2 = anomaly) or as images/ and labels/ with 0 and 1.
        "RoadAnomaly", rf"(?:.*/)?(?:images|frames)/(?P<key>[^/]+){PICTURE}",
        r"(?:.*/)?(?:labels/(?P<key>[^/]+)\.png|frames/(?P<key2>[^/]+)\.labels/labels_semantic\.png)",
        LabelMapping(frozenset({1, 2}), normal=frozenset({0})),
    ),
    "camvid_ood": Layout(
        # 0..10 = CamVid's classes, 11 = void, 12 = the pasted object.
        "CamVid-OOD", rf"(?:.*/)?images/(?P<key>[^/]+){PICTURE}", r"(?:.*/)?labels/(?P<key>[^/]+)\.png",
        LabelMapping(frozenset({12}), frozenset({11, 255})), "obstacle",
    ),
    "mvtec": Layout(
        "MVTec-AD", rf"(?P<category>(?:.*/)?)test/(?P<key>[^/]+/[^/]+){PICTURE}",
        r"(?P<category>(?:.*/)?)ground_truth/(?P<key>[^/]+/[^/]+)_mask\.png",
        _NONZERO, normal=r"(?:.*/)?good/[^/]+", products=True,
    ),
    "visa": Layout(
        "VisA", rf"(?P<category>(?:.*/)?)Data/Images/(?P<key>[^/]+/[^/]+){PICTURE}",
        r"(?P<category>(?:.*/)?)Data/Masks/(?P<key>[^/]+/[^/]+)\.png",
        _NONZERO, normal=r"(?:.*/)?Normal/[^/]+", split=visa_split, products=True,
    ),
}  # fmt: skip


def folder_layout(mapping: LabelMapping, track: str) -> Layout:
    """Return the layout of any folder with `images/` and `labels/` and equal file names."""
    image, label = (rf"(?:.*/)?{folder}/(?P<key>.+){PICTURE}" for folder in ("images", "labels"))
    return Layout("images and labels", image, label, mapping, track)


def layout(name: str) -> Layout:
    """Return a benchmark's layout by name; one that is unknown is an error."""
    if name not in LAYOUTS:
        raise Vl4adError(f"Unknown data set: expected one of {[*LAYOUTS, 'folder']}, got '{name}'.")
    return LAYOUTS[name]


def find_pairs(root: Path, layout: Layout) -> tuple[list[tuple[str, Path, Path | None]], list[str]]:
    """Return a data set's files as (key, image, label or None), and a sentence on each kind that lacks its partner."""
    if not root.is_dir():
        raise Vl4adError(f"There is no folder {root}.")
    labels, images = _files_by_key(root, layout)
    if layout.split is not None:
        chosen = layout.split(root)
        images = {key: files for key, files in images.items() if files[0] in chosen}
        labels = {key: files for key, files in labels.items() if key in images}
    for key in sorted(images.keys() & labels.keys()):
        several = next((files for files in (images[key], labels[key]) if len(files) > 1), None)
        if several is not None:
            raise Vl4adError(
                f"{root} holds two files for '{key}' of {layout.title}, {several[0]} and {several[1]}; give a folder "
                "that holds one of them."
            )
    if not images or not labels:
        raise Vl4adError(
            f"{root} holds {len(images)} images and {len(labels)} labels of {layout.title}; expected images like "
            f"'{_readable(layout.image)}' and labels like '{_readable(layout.label)}'."
        )
    missing = [] if layout.extra_images else [key for key in images.keys() - labels.keys() if not layout.is_normal(key)]
    problems = []
    # Of files without a partner the first of a name stands for all.
    same = [file for found in (labels, images) for files in found.values() for file in files[1:]]
    for what, names in (
        ("labels have no image", labels.keys() - images.keys()),
        ("images have no label", missing),
        ("files without a partner have the name of another one", same),
    ):
        if names:
            listed = ", ".join(sorted(names)[:20]) + (", ..." if len(names) > 20 else "")
            problems.append(f"{len(names)} {what} and are left out: {listed}.")
    pairs = [(key, root / images[key][0], root / labels[key][0] if key in labels else None) for key in sorted(images)]
    return pairs, problems


def _files_by_key(root: Path, layout: Layout) -> list[dict[str, list[str]]]:
    """Return key -> paths below a folder, of the labels and of the images."""
    found: list[dict[str, list[str]]] = [{}, {}]
    patterns = [re.compile(layout.label, re.IGNORECASE), re.compile(layout.image, re.IGNORECASE)]
    for name in sorted(path.relative_to(root).as_posix() for path in _files_below(root)):
        for pattern, files in zip(patterns, found, strict=True):
            match = pattern.fullmatch(name)
            if match:
                key = "".join(value for value in match.groupdict().values() if value is not None)
                files.setdefault(key, []).append(name)
                break
    return found


def _files_below(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Yield the files in a folder and its folders, linked ones too, but round no loop of links."""
    real = folder.resolve()
    if real not in above:
        for path in folder.iterdir():
            if path.is_dir():
                yield from _files_below(path, above | {real})
            elif path.is_file():
                yield path


def _readable(pattern: str) -> str:
    simple = pattern.replace("(?:.*/)?", "").replace(PICTURE, ".png").replace("(?:_rgb|_leftImg8bit)?", "_rgb")
    simple = re.sub(r"\(\?P<key2?>[^)]*\)", "NAME", simple.replace("(?P<category>(?:.*/)?)", ""))
    return re.sub(r"\(\?:([^|)]*)[^)]*\)\??", r"\1", simple).replace("\\", "")
