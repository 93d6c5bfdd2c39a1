"""Pictures for reports: a frame beside its overlay, and thumbnails; JPEG bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.frames import Frame
from vl4ad_ros.io.drawing import draw_overlay
from vl4ad_ros.io.files import write_bytes
from vl4ad_ros.io.media import encode_jpeg

TRUTH = (60, 255, 60)
PANEL_WIDTH = 640
THUMBNAIL_WIDTH = 208
KEEP = 6
TIMELINE = 48


def fit_width(image: NDArray[Any], width: int, nearest: bool = False) -> NDArray[Any]:
    """Resize an image or a map to a width, keeping its proportions."""
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    mode = cv2.INTER_NEAREST if nearest else cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=mode))


def pair_picture(frame: Frame, uncertainty: NDArray[np.float32], mask: NDArray[np.uint8]) -> bytes:
    """Draw a frame with the outline of the true anomalies (green) beside the overlay."""
    image = np.ascontiguousarray(fit_width(frame.image, PANEL_WIDTH))
    height, width = image.shape[:2]
    small = cv2.resize(uncertainty, (width, height), interpolation=cv2.INTER_LINEAR)
    right = draw_overlay(image, np.asarray(small, np.float32), fit_width(mask, width, nearest=True))
    left = image.copy()
    if frame.labels is not None:
        truth = fit_width((frame.labels == 1).astype(np.uint8), width, nearest=True)
        outlines, _ = cv2.findContours(truth, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(left, outlines, -1, TRUTH, 2)
    gap = np.full((height, 6, 3), 255, np.uint8)
    return encode_jpeg(np.concatenate([left, gap, right], axis=1), 82)


def thumbnail(frame: Frame, uncertainty: NDArray[np.float32], mask: NDArray[np.uint8]) -> bytes:
    """Draw a frame's overlay, small."""
    image = fit_width(frame.image, THUMBNAIL_WIDTH)
    return encode_jpeg(draw_overlay(image, uncertainty, fit_width(mask, THUMBNAIL_WIDTH, nearest=True)), 75)


def timeline_indices(count: int) -> set[int]:
    """Return the frames that get a thumbnail: all of a short source, evenly spread ones of a long one."""
    return {int(i) for i in np.linspace(0, count - 1, min(count, TIMELINE)).round()} if count else set()


@dataclass
class Gallery:
    """The few pictures that a report shows, chosen while the frames pass by.

    Which ones are kept depends on the set of frames alone, so that merged parts equal the whole.

    Attributes:
        pictures: Kind (`worst`, `best`) -> (rank, index, JPEG) of the `KEEP` lowest ranks, ascending.
        thumbnails: Index -> JPEG.
    """

    pictures: dict[str, list[tuple[float, int, bytes]]] = field(default_factory=lambda: {"worst": [], "best": []})
    thumbnails: dict[int, bytes] = field(default_factory=dict)

    def offer(
        self, record: dict[str, Any], frame: Frame, uncertainty: NDArray[np.float32], mask: NDArray[np.uint8]
    ) -> None:
        """Keep a picture of the frame if it is among the worst or the best.

        Worst is the lowest average precision of the frame; where a frame has no anomalies or no labels, frames with a
        larger mask are worse.
        """
        ap = record.get("ap")
        goodness = 2.0 - record["mask_share"] if ap is None else ap
        ranks = {"worst": goodness, "best": -goodness}
        if ap is None and frame.labels is not None:
            del ranks["best"]  # A frame without anomalies shows nothing when it is quiet.
        kept = {
            kind: rank
            for kind, rank in ranks.items()
            if len(self.pictures[kind]) < KEEP or (rank, frame.index) < self.pictures[kind][-1][:2]
        }
        if kept:
            data = pair_picture(frame, uncertainty, mask)
            self._keep({kind: [(rank, frame.index, data)] for kind, rank in kept.items()})

    def merge(self, other: Gallery) -> None:
        """Take over the pictures of another part."""
        self._keep(other.pictures)
        self.thumbnails |= other.thumbnails

    def _keep(self, pictures: dict[str, list[tuple[float, int, bytes]]]) -> None:
        for kind, new in pictures.items():
            self.pictures[kind] = sorted([*self.pictures[kind], *new], key=lambda item: item[:2])[:KEEP]

    def save(self, folder: Path) -> None:
        """Write the pictures into a folder: `worst-1.jpg`, the worst one, and so on."""
        for kind, kept in self.pictures.items():
            for place, (_, _, data) in enumerate(kept, start=1):
                write_bytes(folder / f"{kind}-{place}.jpg", data)
