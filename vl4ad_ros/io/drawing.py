"""Pictures of a result for people: alarms filled and outlined over the image, uncertainty as a tint."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

# One hue for all that is anomalous, on a picture that has lost half of its own: magenta stands out from roads, plants,
# sky and lamps also for eyes that do not tell red from green, and the white outline by its brightness alone.
ALARM = (255, 32, 140)
OUTLINE = (255, 255, 255)
# Shares of `ALARM` over the picture: inside the mask, and at uncertainty 1 outside of it and where there is no mask.
FILL, TINT, MAP = 0.6, 0.3, 0.8
_COLOUR_KEPT = 0.5
# Captions are sized for this height and scaled from there.
_CAPTION_HEIGHT = 540.0


def draw_overlay(
    image: NDArray[np.uint8],
    uncertainty: NDArray[np.float32],
    mask: NDArray[np.uint8] | None = None,
    caption: Sequence[str] = (),
) -> NDArray[np.uint8]:
    """Draw an uncertainty map [0, 1], and optionally a mask, over an RGB image uint8 [H, W, 3]: a new one.

    With a mask its pixels are filled and outlined, and the rest has a faint tint by its uncertainty: the eye goes to
    the alarm. Without one the tint is strong: the map itself is looked at. Both are resized to the image. The `caption`
    is lines of Latin letters.
    """
    height, width = image.shape[:2]
    # Squared beside alarms: what is half uncertain, the edge of every tree, shall not be looked at.
    share = np.asarray(uncertainty * MAP if mask is None else uncertainty**2 * TINT, dtype=np.float32)
    if share.shape != (height, width):
        share = np.asarray(cv2.resize(share, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    if mask is not None:
        binary = np.asarray(mask != 0, dtype=np.uint8)
        if binary.shape != (height, width):
            binary = np.asarray(cv2.resize(binary, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
        share = np.where(binary != 0, np.float32(FILL), share)
    drawn = _tinted(image, share)
    scale = _scale(image)
    if mask is not None:
        _outline(drawn, binary, max(1, round(1.2 * scale)), max(2, round(3 * scale)))
    for line, text in enumerate(caption):
        draw_text(drawn, text, (round(8 * scale), round((20 + 20 * line) * scale)))
    return drawn


def _outline(drawn: NDArray[np.uint8], binary: NDArray[np.uint8], white: int, black: int) -> None:
    """Draw lines of a white and a black width around a mask: on its edge, they would hide a small alarm."""
    fill = drawn.copy()
    grown = cv2.dilate(binary, np.ones((2 * white + 1,) * 2, np.uint8))
    outlines, _ = cv2.findContours(grown, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    # Black beneath white, so that it stands out from the sky as well.
    cv2.drawContours(drawn, outlines, -1, (0, 0, 0), black)
    cv2.drawContours(drawn, outlines, -1, OUTLINE, white)
    cv2.copyTo(fill, binary, drawn)


def draw_text(drawn: NDArray[np.uint8], text: str, origin: tuple[int, int], size: float = 0.5) -> None:
    """Write a line into an RGB image uint8 [H, W, 3], white on black: that reads on anything.

    `origin` is the lower left corner, moved into the image; the size is of letters at a height of 540 pixels.
    """
    scale = _scale(drawn)
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(scale))
    (width, height), below = cv2.getTextSize(text, font, size * scale, thickness)
    x = max(3, min(origin[0], drawn.shape[1] - width - 4))
    y = max(height + 3, min(origin[1], drawn.shape[0] - below - 1))
    cv2.rectangle(drawn, (x - 3, y - height - 3), (x + width + 3, y + below), (0, 0, 0), cv2.FILLED)
    cv2.putText(drawn, text, (x, y), font, size * scale, (255, 255, 255), thickness, cv2.LINE_AA)


def draw_legend(drawn: NDArray[np.uint8], threshold: float | None = None) -> None:
    """Draw the tint of uncertainties 0 to 1 as a bar into the lower left corner of an RGB image uint8 [H, W, 3].

    From the `threshold` on, marked by a line, a pixel is in the mask.
    """
    scale = _scale(drawn)
    width, height, left = round(160 * scale), max(4, round(10 * scale)), round(18 * scale)
    top = drawn.shape[0] - round(14 * scale) - height // 2
    box = (left - round(16 * scale), top - round(5 * scale)), (left + width + round(16 * scale), top + height + 4)
    if width < 2 or box[1][0] > drawn.shape[1] or box[0][1] < 0:
        return  # A picture so small has no room for it.
    cv2.rectangle(drawn, *box, (0, 0, 0), cv2.FILLED)
    levels = np.linspace(0, 1, width, dtype=np.float32)
    share = levels * MAP if threshold is None else np.where(levels < threshold, levels**2 * TINT, FILL)
    grey = np.full((height, width, 3), 128, dtype=np.uint8)
    drawn[top : top + height, left : left + width] = _tinted(grey, share.astype(np.float32)[None].repeat(height, 0))
    draw_text(drawn, "0", (left - round(12 * scale), top + height), 0.4)
    draw_text(drawn, "1", (left + width + round(5 * scale), top + height), 0.4)
    if threshold is not None:
        x = left + round(min(max(threshold, 0.0), 1.0) * (width - 1))
        cv2.line(drawn, (x, top - 3), (x, top + height + 2), OUTLINE, max(1, round(1.5 * scale)))


def _scale(drawn: NDArray[np.uint8]) -> float:
    return max(int(drawn.shape[0]) / _CAPTION_HEIGHT, 0.7)


def _tinted(image: NDArray[np.uint8], share: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Blend a share of `ALARM` [H, W] over the paled image."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    pale = cv2.addWeighted(image, _COLOUR_KEPT, grey, 1 - _COLOUR_KEPT, 0)
    colour = np.full_like(image, ALARM)
    return np.asarray(cv2.blendLinear(pale, colour, 1 - share, share), dtype=np.uint8)
