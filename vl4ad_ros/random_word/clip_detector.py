"""A detector on CLIP's own image tower: image scores and maps from windows of several sizes (needs open_clip)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.random_word.gap import Reference, close_gap, directions
from vl4ad_ros.random_word.windows import WindowTower, harmonic_map, harmonic_mean, window_index, wrap_tower
from vl4ad_ros.runtime.random_word_network import RandomWordNetwork

ImageScore = Literal["whole", "max", "mean"]
_SMALLEST = 1e-6  # Keeps harmonic means finite.


@dataclass(frozen=True)
class Detection:
    """The result of one image.

    Attributes:
        score: p(anomalous) of the image, in [0, 1].
        map: float32 [H, W] in [0, 1], at the image's size.
    """

    score: float
    map: NDArray[np.float32]


@dataclass(frozen=True)
class ImageTower:
    """A CLIP image tower, ready for windows.

    Attributes:
        id: The model's id, `open_clip:MODEL/PRETRAINED`, as of its text encoder.
        tower: Its window form.
        size: Rows and columns of its input.
        mean: Per RGB channel, of images in [0, 1].
        std: Per RGB channel.
    """

    id: str
    tower: WindowTower
    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def prepare(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Resize RGB images uint8 [H, W, 3] to the tower's size and normalise them: [B, 3, H, W]."""
        rows = [
            cv2.resize(
                image,
                self.size[::-1],
                interpolation=cv2.INTER_AREA if image.shape[0] > self.size[0] else cv2.INTER_CUBIC,
            )
            for image in images
        ]
        batch = torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).float() / 255
        return (batch - torch.tensor(self.mean).reshape(1, 3, 1, 1)) / torch.tensor(self.std).reshape(1, 3, 1, 1)


def image_tower(encoder_id: str, visual: Any, batch: int = 256) -> ImageTower:
    """Wrap the image tower `model.visual` of an open_clip model.

    Args:
        encoder_id: The model's id.
        visual: The tower, in evaluation mode.
        batch: Windows that run at once.

    Raises:
        Vl4adError: If windows are not supported for this kind of tower.
    """
    size = visual.image_size if isinstance(visual.image_size, tuple) else (visual.image_size, visual.image_size)
    config = getattr(visual, "preprocess_cfg", None) or {}
    # OpenAI's values are those of every open_clip model that names no others.
    mean = config.get("mean") or (0.48145466, 0.4578275, 0.40821073)
    std = config.get("std") or (0.26862954, 0.26130258, 0.27577711)
    return ImageTower(encoder_id, wrap_tower(visual, size, batch), size, tuple(mean), tuple(std))


class ClipWindowDetector:
    """A random-word network (or any of its form) on CLIP windows."""

    def __init__(
        self,
        tower: ImageTower,
        network: RandomWordNetwork,
        sizes: Sequence[int] = (2, 3),
        image_score: ImageScore = "whole",
    ) -> None:
        """Join a tower and a network.

        Args:
            tower: The image tower.
            network: Trained in the text space of the same model.
            sizes: Window sizes in patches, beside the whole image.
            image_score: `whole`: of the whole image's embedding (WinCLIP). `max`: the map's largest value. `mean`: the
                mean of both.

        Raises:
            Vl4adError: If the network is of another text encoder, or a size is not positive.
        """
        if network.encoder_id != tower.id:
            raise Vl4adError(
                f"The random-word network was trained with '{network.encoder_id}', the image tower is '{tower.id}'."
            )
        if any(size < 1 for size in sizes):
            raise Vl4adError(f"Window sizes must be at least 1 patch, got {list(sizes)}.")
        self.tower, self.network, self.image_score = tower, network, image_score
        grid = tower.tower.grid
        self._scales = [window_index(grid, size) for size in (max(grid), *sizes)]  # The whole image first.

    @torch.inference_mode()
    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[Tensor]:
        """Return the window embeddings of each scale, the whole image first: [B, n, D] each."""
        shared = self.tower.tower.shared(self.tower.prepare(images))
        return [self.tower.tower.embed(shared, index) for index in self._scales]

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[Detection]:
        """Score RGB images uint8 [H, W, 3] of any sizes."""
        rows, columns = self.tower.tower.grid
        scores = [
            torch.from_numpy(self.network.probability(part.numpy())).clamp(min=_SMALLEST) for part in self.embed(images)
        ]
        maps = [harmonic_map(part, index, rows * columns) for part, index in zip(scores, self._scales, strict=True)]
        merged = harmonic_mean(maps).reshape(-1, rows, columns).numpy()
        detections = []
        for image, small, whole in zip(images, merged, scores[0][:, 0].tolist(), strict=True):
            resized = cv2.resize(small, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
            largest = float(small.max())
            score = {"whole": whole, "max": largest, "mean": (whole + largest) / 2}[self.image_score]
            detections.append(Detection(score, np.asarray(resized, dtype=np.float32)))
        return detections

    def with_gap_closed(
        self, images: Sequence[NDArray[np.uint8]], reference: Reference = "normal", batch: int = 8
    ) -> ClipWindowDetector:
        """Return the detector with the image cloud moved onto the text cloud; see `vl4ad_ros.random_word.gap`.

        Args:
            images: Unlabelled images; normal ones for the reference `normal`.
            reference: See `close_gap`.
            batch: Images that run at once.
        """
        total, count = np.zeros(self.network.dim), 0
        for start in range(0, len(images), batch):
            for part in self.embed(images[start : start + batch]):
                total += part.double().sum(dim=(0, 1)).numpy()
                count += part.shape[0] * part.shape[1]
        basis = directions(self.network)
        note = {"images": len(images), "windows": count}
        mean = np.asarray(basis @ (total / max(count, 1)), dtype=np.float32)
        closed = copy.copy(self)
        closed.network = close_gap(self.network, basis, mean, reference, note)
        return closed
