"""Label images and what their values mean: palettes, colour masks, 16 bits."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import read_bytes
from vl4ad_ros.io.picture_header import FORMATS, picture_size

VOID = 255
# Set in the value of a colour: 0x0000ff is not the index 255.
COLOUR = 1 << 24
_GREY = 0x010101


def read_label_values(path: Path) -> NDArray[np.int32]:
    """Read a label file: int32 [H, W], the stored value (a palette's index), or `COLOUR | 0xRRGGBB` of a colour.

    A pixel of a colour mask with red = green = blue has that value, as in a grey image: black 0, white 255. It does not
    depend on what else is in the file.
    """
    data = read_bytes(path)
    try:
        picture_size(data)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            # A palette's indices are the labels; its colours are for people.
            straight = image if image.mode in ("P", "L", "1", "I", "I;16", "I;16B") else image.convert("RGB")
            values = np.asarray(straight).astype(np.int32)
    except Exception as error:  # whatever its parsers stumble over
        raise Vl4adError(f"{path} is no label image that can be read ({error}).") from error
    if values.ndim == 2:
        return values
    red, green, blue = values[..., 0], values[..., 1], values[..., 2]
    grey = (red == green) & (red == blue)
    return np.where(grey, red, COLOUR | red << 16 | green << 8 | blue).astype(np.int32)


@dataclass(frozen=True)
class LabelMapping:
    """Which stored values mean what.

    A grey level and the colour of that grey are the same value, in files of either kind: 255 and #ffffff, 0 and
    #000000. Where a value is named several times, anomaly wins over void and void over normal: `--anomaly '#ffffff'`
    takes white for an anomaly though 255 is void otherwise.
    """

    anomaly: frozenset[int]  # values that are anomalies (label 1)
    void: frozenset[int] = frozenset({VOID})  # values that are left out (label 255)
    normal: frozenset[int] | None = None  # values that are not anomalies (label 0); None takes all others

    def apply(self, values: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Return labels uint8 [H, W]: 1 = anomaly, 0 = none, 255 = void (also for values named nowhere).

        A file with colours is refused where the anomalies are neither named as colours nor white nor in it.
        """
        present = np.unique(values)
        if present[-1] >= COLOUR and not any(v >= COLOUR or v == VOID or v in present for v in self.anomaly):
            colours = [f"#{v - COLOUR if v >= COLOUR else v * _GREY:06x}" for v in present[:8].tolist()]
            raise Vl4adError(f"it is a colour mask ({', '.join(colours)}); name the anomalies' colours with --anomaly")
        labels = np.full(values.shape, 0 if self.normal is None else VOID, np.uint8)
        for meaning, chosen in ((0, self.normal), (VOID, self.void), (1, self.anomaly)):
            plain = {_plain(value) for value in chosen or ()}
            here = [value for value in present.tolist() if value in plain]
            if here:
                labels[np.isin(values, here)] = meaning
        return labels


def _plain(value: int) -> int:
    """Return the grey level of a grey that was named as a colour, and any other value as it is."""
    level = value & 0xFF
    return level if value == COLOUR | level * _GREY else value


def parse_values(text: str) -> frozenset[int]:
    """Return the values of a text like `1,3-5,#ff6600`; a colour is `COLOUR | 0xRRGGBB`."""
    values: set[int] = set()
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            if part.startswith("#") and len(part) == 7:
                values.add(COLOUR | int(part[1:], 16))
            else:
                low, dash, high = part.partition("-")
                values |= set(range(int(low), int(high if dash else low) + 1))
        except ValueError as error:
            raise Vl4adError(f"'{part}' is no label value: expected e.g. 1, 3-5 or #ff6600.") from error
    return frozenset(values)
