"""Pictures of a result for people: the uncertainty as colour over the image, the anomaly mask as an outline."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

# Cyan does not occur in the colour map, and seldom on a road.
OUTLINE = (0, 255, 255)
IMAGE_SHARE = 0.5
# Captions are sized for this height and scaled from there.
_CAPTION_HEIGHT = 540.0


def draw_overlay(
    image: NDArray[np.uint8],
    uncertainty: NDArray[np.float32],
    mask: NDArray[np.uint8] | None = None,
    caption: Sequence[str] = (),
) -> NDArray[np.uint8]:
    """Draw an uncertainty map, and optionally a mask's outline, over an image.

    The colour goes from black (0, certain) over red to bright yellow (1, uncertain), half over the image: what is
    normal gets darker, what is not lights up.

    Args:
        image: RGB, uint8 [H, W, 3].
        uncertainty: float32 [h, w] in [0, 1]; resized to the image where it has another size.
        mask: uint8 [h, w], not 0 = anomaly; resized likewise. None draws no outline.
        caption: Lines of text for the upper left corner (Latin letters).

    Returns:
        RGB, uint8 [H, W, 3], a new array.
    """
    height, width = image.shape[:2]
    levels = cv2.convertScaleAbs(uncertainty, alpha=255.0)
    if levels.shape != (height, width):
        levels = cv2.resize(levels, (width, height), interpolation=cv2.INTER_LINEAR)
    levels_u8 = np.asarray(levels, dtype=np.uint8)
    drawn = np.asarray(cv2.addWeighted(image, IMAGE_SHARE, _colours(levels_u8), 1.0 - IMAGE_SHARE, 0.0), dtype=np.uint8)
    scale = _scale(drawn)
    if mask is not None:
        binary = np.asarray(mask != 0, dtype=np.uint8)
        if binary.shape != (height, width):
            binary = np.asarray(cv2.resize(binary, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
        outlines, _ = cv2.findContours(binary, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, outlines, -1, OUTLINE, max(1, round(1.5 * scale)))
    for line, text in enumerate(caption):
        draw_text(drawn, text, (round(8 * scale), round((20 + 20 * line) * scale)))
    return drawn


def draw_text(drawn: NDArray[np.uint8], text: str, origin: tuple[int, int], size: float = 0.5) -> None:
    """Write a line into an RGB image uint8 [H, W, 3], white on black: that reads on anything.

    Args:
        drawn: The image; changed.
        text: The line (Latin letters).
        origin: Column and row of the lower left corner of its first letter; moved into the image where it is not.
        size: Of the letters, at a height of the image of 540 pixels; they grow with it.
    """
    scale = _scale(drawn)
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(scale))
    (width, height), below = cv2.getTextSize(text, font, size * scale, thickness)
    x = max(3, min(origin[0], drawn.shape[1] - width - 4))
    y = max(height + 3, min(origin[1], drawn.shape[0] - below - 1))
    cv2.rectangle(drawn, (x - 3, y - height - 3), (x + width + 3, y + below), (0, 0, 0), cv2.FILLED)
    cv2.putText(drawn, text, (x, y), font, size * scale, (255, 255, 255), thickness, cv2.LINE_AA)


def draw_legend(drawn: NDArray[np.uint8], threshold: float | None = None) -> None:
    """Draw the colour map as a bar from 0 to 1 into the lower left corner of an RGB image uint8 [H, W, 3].

    Args:
        drawn: The image; changed.
        threshold: Uncertainty from which on a pixel is in the mask; a line in the outline's colour. None draws none.
    """
    scale = _scale(drawn)
    width, height, left = round(160 * scale), max(4, round(10 * scale)), round(18 * scale)
    top = drawn.shape[0] - round(14 * scale) - height // 2
    box = (left - round(16 * scale), top - round(5 * scale)), (left + width + round(16 * scale), top + height + 4)
    if width < 2 or box[1][0] > drawn.shape[1] or box[0][1] < 0:
        return  # A picture so small has no room for it.
    cv2.rectangle(drawn, *box, (0, 0, 0), cv2.FILLED)
    ramp = np.linspace(0, 255, width).astype(np.uint8)[None].repeat(height, axis=0)
    drawn[top : top + height, left : left + width] = _colours(ramp)
    draw_text(drawn, "0", (left - round(12 * scale), top + height), 0.4)
    draw_text(drawn, "1", (left + width + round(5 * scale), top + height), 0.4)
    if threshold is not None:
        x = left + round(min(max(threshold, 0.0), 1.0) * (width - 1))
        cv2.line(drawn, (x, top - 3), (x, top + height + 2), OUTLINE, max(1, round(1.5 * scale)))


def _scale(drawn: NDArray[np.uint8]) -> float:
    return max(int(drawn.shape[0]) / _CAPTION_HEIGHT, 0.7)


def _colours(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB), dtype=np.uint8)
