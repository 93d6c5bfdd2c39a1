"""Image and label files as people have them: a .png that is a JPEG, WebP, palettes, colour masks, 16 bits."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vl4ad_ros.errors import Vl4adError

VOID = 255


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image by its content, whatever its name says, as RGB uint8 [H, W, 3].

    The EXIF orientation is left alone: labels are drawn on the pixels as they are stored.

    Raises:
        Vl4adError: If the file cannot be read or is no image.
    """
    mode = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    data = _read(path)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), mode) if data else None
    if image is None:
        raise Vl4adError(f"{path} is no image that can be read ({len(data)} bytes).")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def read_label_values(path: Path) -> NDArray[np.int32]:
    """Read a label file: int32 [H, W], the stored value (a palette's index), or 0xRRGGBB of a colour mask.

    Raises:
        Vl4adError: If the file cannot be read or is no image.
    """
    try:
        with Image.open(io.BytesIO(_read(path))) as image:
            # A palette's indices are the labels; its colours are for people.
            straight = image if image.mode in ("P", "L", "1", "I", "I;16", "I;16B") else image.convert("RGB")
            values = np.asarray(straight).astype(np.int32)
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise Vl4adError(f"{path} is no label image that can be read ({error}).") from error
    if values.ndim == 2:
        return values
    red, green, blue = values[..., 0], values[..., 1], values[..., 2]
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return red
    return np.asarray(red << 16 | green << 8 | blue, dtype=np.int32)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Vl4adError(f"{path} cannot be read ({error.strerror}).") from error


@dataclass(frozen=True)
class LabelMapping:
    """Which stored values mean what.

    Attributes:
        anomaly: Values that are anomalies (label 1).
        void: Values that are left out (label 255).
        normal: Values that are not anomalies (label 0); None takes all others.
    """

    anomaly: frozenset[int]
    void: frozenset[int] = frozenset({VOID})
    normal: frozenset[int] | None = None

    def apply(self, values: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Return labels uint8 [H, W]: 1 = anomaly, 0 = none, 255 = void (also for values named nowhere).

        Raises:
            Vl4adError: If the file is a colour mask and no colour is among the anomalies.
        """
        present = np.unique(values)
        if present[-1] > 0xFFFF and max(self.anomaly, default=0) <= 0xFFFF:
            colours = [f"#{value:06x}" for value in present[:8].tolist()]
            raise Vl4adError(f"it is a colour mask ({', '.join(colours)}); name the anomalies' colours with --anomaly")
        labels = np.full(values.shape, 0 if self.normal is None else VOID, np.uint8)
        for meaning, chosen in ((0, self.normal), (VOID, self.void), (1, self.anomaly)):
            here = [value for value in present.tolist() if chosen is not None and value in chosen]
            if here:
                labels[np.isin(values, here)] = meaning
        return labels


def parse_values(text: str) -> frozenset[int]:
    """Return the values of a text like `1,3-5,#ff6600`.

    Raises:
        Vl4adError: If a part is neither a number, a range nor a colour.
    """
    values: set[int] = set()
    for part in (p.strip() for p in text.split(",") if p.strip()):
        try:
            if part.startswith("#") and len(part) == 7:
                values.add(int(part[1:], 16))
            elif "-" in part:
                low, high = part.split("-")
                values |= set(range(int(low), int(high) + 1))
            else:
                values.add(int(part))
        except ValueError as error:
            raise Vl4adError(f"'{part}' is no label value: expected e.g. 1, 3-5 or #ff6600.") from error
    return frozenset(values)
