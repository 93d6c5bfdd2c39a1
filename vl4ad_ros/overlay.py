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
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    drawn = cv2.addWeighted(image, IMAGE_SHARE, colours, 1.0 - IMAGE_SHARE, 0.0)
    scale = max(height / _CAPTION_HEIGHT, 0.4)
    if mask is not None:
        binary = np.asarray(mask != 0, dtype=np.uint8)
        if binary.shape != (height, width):
            binary = np.asarray(cv2.resize(binary, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
        outlines, _ = cv2.findContours(binary, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, outlines, -1, OUTLINE, max(1, round(1.5 * scale)))
    for line, text in enumerate(caption):
        origin = (round(8 * scale), round((20 + 20 * line) * scale))
        size, thickness = 0.5 * scale, max(1, round(scale))
        (width_px, height_px), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, thickness)
        first, last = (origin[0] - 3, origin[1] - height_px - 3), (origin[0] + width_px + 3, origin[1] + below)
        cv2.rectangle(drawn, first, last, (0, 0, 0), cv2.FILLED)  # White on black reads on anything.
        cv2.putText(drawn, text, origin, cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), thickness, cv2.LINE_AA)
    return np.asarray(drawn, dtype=np.uint8)
