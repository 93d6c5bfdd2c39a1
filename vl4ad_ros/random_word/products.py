"""The folder layouts of product inspection: MVTec-AD and VisA (VisA also as converted to MVTec-AD's layout)."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.labels import read_label_values
from vl4ad_ros.io.media import PICTURES, read_picture


@dataclass(frozen=True)
class ProductImage:
    """One picture of a product.

    Attributes:
        image: The picture.
        mask: The mask of its defects (nonzero = defect); None where the picture is all normal.
    """

    image: Path
    mask: Path | None = None

    @property
    def anomalous(self) -> bool:
        """Whether the product has a defect."""
        return self.mask is not None

    def read(self) -> NDArray[np.uint8]:
        """Return the picture as RGB uint8 [H, W, 3]."""
        return read_picture(self.image, as_stored=True)

    def read_mask(self, height: int, width: int) -> NDArray[np.uint8]:
        """Return the defects as uint8 [height, width], 1 = defect; resized without mixing values."""
        if self.mask is None:
            return np.zeros((height, width), dtype=np.uint8)
        defects = (read_label_values(self.mask) != 0).astype(np.uint8)
        resized = cv2.resize(defects, (width, height), interpolation=cv2.INTER_NEAREST)
        return np.asarray(resized, dtype=np.uint8)


@dataclass(frozen=True)
class ProductCategory:
    """One product: training pictures without defects, and the test pictures."""

    name: str
    train: tuple[ProductImage, ...]
    test: tuple[ProductImage, ...]


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES)


def mvtec_category(folder: Path) -> ProductCategory:
    """Read a category in MVTec-AD's layout.

    `train/good/*`, `test/good/*`, `test/DEFECT/NAME.png` with `ground_truth/DEFECT/NAME_mask.png` (or `NAME.png`).

    Raises:
        Vl4adError: If there are no test pictures, or a defect has no mask.
    """
    test = []
    for kind in sorted(p for p in (folder / "test").glob("*") if p.is_dir()):
        for picture in _pictures(kind):
            mask = None
            if kind.name != "good":
                names = (f"{picture.stem}_mask.png", f"{picture.stem}.png")
                candidates = [folder / "ground_truth" / kind.name / name for name in names]
                mask = next((path for path in candidates if path.is_file()), None)
                if mask is None:
                    raise Vl4adError(f"{picture} shows a defect but has no mask: expected {candidates[0]}.")
            test.append(ProductImage(picture, mask))
    if not test:
        raise Vl4adError(f"{folder} has no pictures under test/: it is not in MVTec-AD's layout.")
    train = tuple(ProductImage(picture) for picture in _pictures(folder / "train" / "good"))
    return ProductCategory(folder.name, train, tuple(test))


def visa_category(folder: Path) -> ProductCategory:
    """Read a category of VisA by the published split, `split_csv/1cls.csv` beside the categories.

    Raises:
        Vl4adError: If the split is missing, damaged, or names missing files.
    """
    table = folder.parent / "split_csv" / "1cls.csv"
    if not table.is_file():
        raise Vl4adError(f"{folder.parent} has no split_csv/1cls.csv: it is not in VisA's layout.")
    parts: dict[str, list[ProductImage]] = {"train": [], "test": []}
    with table.open(encoding="utf-8", newline="") as stream:
        for number, row in enumerate(csv.DictReader(stream), start=2):
            if row.get("object") != folder.name:
                continue
            split, label, image, mask = (row.get(key) or "" for key in ("split", "label", "image", "mask"))
            if split not in parts or label not in ("normal", "anomaly") or not image:
                raise Vl4adError(f"{table}: line {number} does not fit VisA's split: {row}.")
            files = [folder.parent / name for name in (image, mask) if name]
            missing = [str(path) for path in files if not path.is_file()]
            if missing or (label == "anomaly" and len(files) < 2):
                raise Vl4adError(f"{table}: line {number} needs {missing or 'a mask'}, which is missing.")
            parts[split].append(ProductImage(files[0], files[1] if label == "anomaly" else None))
    if not parts["test"]:
        raise Vl4adError(f"{table} names no test picture of '{folder.name}'.")
    return ProductCategory(folder.name, tuple(parts["train"]), tuple(parts["test"]))


PRODUCT_LAYOUTS: dict[str, tuple[str, Callable[[Path], ProductCategory]]] = {
    "mvtec": ("test", mvtec_category),
    "visa": ("Data", visa_category),
}
"""Layout -> the folder that marks a category, and the function that reads one."""


def load_categories(root: Path, layout: str, names: list[str] | None = None) -> list[ProductCategory]:
    """Read the categories of a data set.

    Args:
        root: Its folder; the categories are the folders in it.
        layout: `mvtec` or `visa`.
        names: Categories to read; None reads all.

    Raises:
        Vl4adError: If the layout or a category is unknown, or the folder holds none.
    """
    if layout not in PRODUCT_LAYOUTS:
        raise Vl4adError(f"Unknown layout: expected one of {sorted(PRODUCT_LAYOUTS)}, got '{layout}'.")
    mark, read = PRODUCT_LAYOUTS[layout]
    folders = {path.parent.name: path.parent for path in sorted(root.glob(f"*/{mark}")) if path.is_dir()}
    if not folders:
        raise Vl4adError(f"{root} holds no category of the layout '{layout}' (folders with '{mark}/' in them).")
    unknown = [name for name in names or [] if name not in folders]
    if unknown:
        raise Vl4adError(f"Unknown category: expected some of {sorted(folders)}, got '{unknown[0]}'.")
    return [read(folder) for name, folder in folders.items() if not names or name in names]
