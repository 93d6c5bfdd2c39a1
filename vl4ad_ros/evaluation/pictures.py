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

    pictures: dict[str, list[tuple[float, int, bytes]]] = field(default_factory=dict)
    thumbnails: dict[int, bytes] = field(default_factory=dict)

    def offer(
        self, record: dict[str, Any], frame: Frame, uncertainty: NDArray[np.float32], mask: NDArray[np.uint8]
    ) -> None:
        """Keep a picture of the frame if it is among the worst or the best.

        Worst is the lowest average precision of the frame; where a frame has no anomalies or no labels, frames with a
        larger mask are worse.
        """
        badness = -record["ap"] if record.get("ap") is not None else record["mask_share"] - 2.0
        data: bytes | None = None
        for kind, rank in (("worst", -badness), ("best", badness)):
            kept = self.pictures.setdefault(kind, [])
            if record.get("ap") is None and "objects" in record and kind == "best":
                continue  # A frame without anomalies shows nothing when it is quiet.
            if len(kept) == KEEP and (rank, frame.index) >= kept[-1][:2]:
                continue
            data = data or pair_picture(frame, uncertainty, mask)
            kept.append((rank, frame.index, data))
            kept.sort(key=lambda item: item[:2])
            del kept[KEEP:]

    def merge(self, other: Gallery) -> None:
        """Take over the pictures of another part."""
        for kind, theirs in other.pictures.items():
            kept = self.pictures.setdefault(kind, [])
            kept.extend(theirs)
            kept.sort(key=lambda item: item[:2])
            del kept[KEEP:]
        self.thumbnails |= other.thumbnails

    def save(self, folder: Path) -> None:
        """Write the pictures into a folder: `worst-1.jpg`, the worst one, and so on."""
        folder.mkdir(parents=True, exist_ok=True)
        for kind, kept in self.pictures.items():
            for place, (_, _, data) in enumerate(kept, start=1):
                (folder / f"{kind}-{place}.jpg").write_bytes(data)
