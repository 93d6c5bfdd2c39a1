"""Pictures for reports: a frame beside its overlay, and the overlay around an object; JPEG bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.frames import Frame, FrameSource
from vl4ad_ros.evaluation.predictor import PredictorSpec, predictions
from vl4ad_ros.io.drawing import draw_overlay
from vl4ad_ros.io.files import write_bytes
from vl4ad_ros.io.media import encode_jpeg
from vl4ad_ros.runtime.frames import anomaly_mask

TRUTH = (60, 255, 60)
PANEL_WIDTH = 640
KEEP = 6
# A close-up is so many times as wide as what it shows, and at least this share of the frame's width.
SURROUNDINGS, MIN_SHARE = 3.0, 0.3
QUALITY = 82
Box = tuple[int, ...]


class Shot(NamedTuple):
    """A picture to draw: of a frame by its index, or of the surroundings of a box in it (x0, y0, x1, y1)."""

    frame: int
    box: Box | None = None


def fit_width(image: NDArray[Any], width: int, nearest: bool = False) -> NDArray[Any]:
    """Resize an image or a map to a width, keeping its proportions."""
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    mode = cv2.INTER_NEAREST if nearest else cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_LINEAR
    return np.array(cv2.resize(image, (width, height), interpolation=mode))


def ranked_frames(records: Sequence[dict[str, Any]]) -> dict[str, list[Shot]]:
    """Return the `worst` and the `best` frames, at most `KEEP` of each, the most extreme first.

    Worst is the lowest average precision of the frame; where a frame has no anomalies or no labels, frames with a
    larger mask are worse. A labelled frame without anomalies is never best: it shows nothing when it is quiet.
    """
    rank = {r["index"]: 2.0 - r["mask_share"] if r.get("ap") is None else r["ap"] for r in records}
    telling = [r["index"] for r in records if r.get("ap") is not None or "objects" not in r]
    return {
        "worst": [Shot(index) for index in sorted(rank, key=lambda index: (rank[index], index))[:KEEP]],
        "best": [Shot(index) for index in sorted(telling, key=lambda index: (-rank[index], index))[:KEEP]],
    }


def draw_pictures(
    source: FrameSource, predictor: PredictorSpec, thresholds: Mapping[int, float], shots: Iterable[Shot]
) -> dict[Shot, bytes]:
    """Predict the frames of some pictures once more, and draw them; those that cannot be read any more are left out."""
    by_frame: dict[int, list[Shot]] = {}
    for shot in shots:
        by_frame.setdefault(shot.frame, []).append(shot)
    drawn = {}
    for frame, prediction in predictions(source, predictor, sorted(by_frame)) if by_frame else ():
        uncertainty = prediction.uncertainty
        mask = anomaly_mask(uncertainty, thresholds[frame.index])
        for shot in by_frame[frame.index]:
            pixels = (
                _pair(frame, uncertainty, mask) if shot.box is None else _close_up(frame, uncertainty, mask, shot.box)
            )
            drawn[shot] = encode_jpeg(pixels, QUALITY)
    return drawn


def save_pictures(folder: Path, records: Sequence[dict[str, Any]], pictures: dict[Shot, bytes]) -> None:
    """Write the ranked frames' pictures into a folder: `worst-1.jpg`, the worst one, and so on."""
    for kind, shots in ranked_frames(records).items():
        for place, shot in enumerate(shots, start=1):
            if shot in pictures:
                write_bytes(folder / f"{kind}-{place}.jpg", pictures[shot])


def _pair(frame: Frame, uncertainty: NDArray[np.float32], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draw a frame with the outline of the true anomalies (green) beside the overlay."""
    left = fit_width(frame.image, PANEL_WIDTH)
    right = draw_overlay(left, uncertainty, mask)
    _outline(left, frame.labels)
    return np.concatenate([left, np.full((len(left), 6, 3), 255, np.uint8), right], axis=1)


def _close_up(frame: Frame, uncertainty: NDArray[np.float32], mask: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """Draw the overlay around a box, in pixels of the map, with the outline of the true anomalies (green)."""
    height, width = mask.shape
    x0, y0, x1, y1 = box
    share = min(1.0, max(MIN_SHARE, SURROUNDINGS * max((x1 - x0) / width, (y1 - y0) / height)))
    wide, high = max(1, round(share * width)), max(1, round(share * height))
    x = min(max((x0 + x1 - wide) // 2, 0), width - wide)
    y = min(max((y0 + y1 - high) // 2, 0), height - high)
    window = np.s_[y : y + high, x : x + wide]
    image = frame.image if frame.image.shape[:2] == mask.shape else cv2.resize(frame.image, (width, height))
    drawn = draw_overlay(fit_width(image[window], PANEL_WIDTH), uncertainty[window], mask[window])
    _outline(drawn, None if frame.labels is None else frame.labels[window])
    return drawn


def _outline(drawn: NDArray[np.uint8], labels: NDArray[np.uint8] | None) -> None:
    if labels is not None:
        truth = cv2.resize((labels == 1).astype(np.uint8), drawn.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(truth, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, outlines, -1, TRUTH, 2)
