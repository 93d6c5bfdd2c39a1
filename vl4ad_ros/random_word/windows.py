"""Sliding windows over CLIP's image tower, and maps from window scores (WinCLIP, arXiv 2303.14814).

A window is k x k patches of the tower's grid, at every position. Patch tokens (or a convolutional trunk's features) are
computed once per image and shared by all windows; the windows of a scale run in batches. In a vision transformer a
window's embedding is that of its own tokens and the class token alone; in a ConvNeXt tower, that of the head on the
window's features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vl4ad_ros.io.errors import Vl4adError

# OpenAI's values are those of every open_clip model that names no others.
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_BATCH = 256  # Windows that run at once.


class WindowTower(ABC):
    """An image tower of open_clip that embeds windows."""

    grid: tuple[int, int]  # patches in a column and in a row

    def __init__(self, visual: Any) -> None:
        size = visual.image_size
        self._visual = visual
        self._size: tuple[int, int] = tuple(size) if isinstance(size, tuple) else (size, size)
        config = getattr(visual, "preprocess_cfg", None) or {}
        self._mean, self._std = (
            torch.tensor(config.get(name) or default).reshape(3, 1, 1)
            for name, default in (("mean", _MEAN), ("std", _STD))
        )

    def prepare(self, image: NDArray[np.uint8]) -> Tensor:
        """Resize an RGB image uint8 [H, W, 3] to the tower's input and normalise it: [3, h, w]."""
        method = cv2.INTER_AREA if image.shape[0] > self._size[0] else cv2.INTER_CUBIC
        resized = torch.from_numpy(cv2.resize(image, self._size[::-1], interpolation=method))
        return (resized.permute(2, 0, 1).float() / 255 - self._mean) / self._std

    @torch.inference_mode()
    def embed(self, image: Tensor, scales: Sequence[Tensor]) -> list[Tensor]:
        """Embed the windows of a prepared image, unit rows [n, D], for each scale int64 [n, k] of patches."""
        shared = self._shared(image[None])
        return [
            F.normalize(torch.cat([self._embed(shared, part) for part in index.split(_BATCH)]), dim=1)
            for index in scales
        ]

    @abstractmethod
    def _shared(self, image: Tensor) -> Tensor:
        """[1, 3, h, w] -> the features that all windows share."""

    @abstractmethod
    def _embed(self, shared: Tensor, index: Tensor) -> Tensor:
        """Features and patches of windows [n, k] -> [n, D]."""


class TransformerTower(WindowTower):
    """open_clip's own vision transformer, `open_clip.transformer.VisionTransformer`."""

    def __init__(self, visual: Any) -> None:
        super().__init__(visual)
        self.grid = tuple(visual.grid_size)

    def _shared(self, image: Tensor) -> Tensor:
        tokens: Tensor = self._visual._embeds(image)[0]  # [1 + patches, width], class token first
        return tokens

    def _embed(self, shared: Tensor, index: Tensor) -> Tensor:
        windows = torch.cat([shared[:1].expand(len(index), 1, -1), shared[1:][index]], dim=1)
        pooled: Tensor = self._visual._pool(self._visual.transformer(windows))[0]
        return pooled if self._visual.proj is None else pooled @ self._visual.proj


class ConvolutionalTower(WindowTower):
    """A timm trunk with a feature map and a pooling head (ConvNeXt), `open_clip.timm_model.TimmModel`."""

    def __init__(self, visual: Any) -> None:
        super().__init__(visual)
        reduction = int(visual.trunk.feature_info[-1]["reduction"])
        self.grid = (self._size[0] // reduction, self._size[1] // reduction)

    def _shared(self, image: Tensor) -> Tensor:
        features: Tensor = self._visual.trunk.forward_features(image)[0]
        return features.flatten(1)  # [C, patches]

    def _embed(self, shared: Tensor, index: Tensor) -> Tensor:
        # The head averages over all places: one row of k places does as well as a square.
        windows = shared[:, index].transpose(0, 1)[:, :, None]
        embedding: Tensor = self._visual.head(self._visual.trunk.forward_head(windows))
        return embedding


def wrap_tower(visual: Any) -> WindowTower:
    """Return the window form of `model.visual`: an open_clip vision transformer or a convolutional timm trunk."""
    if hasattr(visual, "_embeds") and hasattr(visual, "grid_size"):
        return TransformerTower(visual)
    trunk = getattr(visual, "trunk", None)
    if hasattr(trunk, "stages") and hasattr(trunk, "forward_head"):
        return ConvolutionalTower(visual)
    raise Vl4adError(
        f"Windows need an open_clip vision transformer (ViT-...) or a ConvNeXt tower, got {type(visual).__name__}."
    )


def window_index(grid: tuple[int, int], size: int) -> Tensor:
    """Return the patches of every k x k window, int64 [n, k * k], row-major; a larger k is cut to the grid."""
    height, width = min(size, grid[0]), min(size, grid[1])
    patches = torch.arange(grid[0] * grid[1]).reshape(grid)
    return patches.unfold(0, height, 1).unfold(1, width, 1).reshape(-1, height * width)


def harmonic_map(scores: Tensor, index: Tensor, patches: int) -> Tensor:
    """Spread window scores [n] > 0 over patches: the harmonic mean of the windows that cover a patch, [patches]."""
    flat = index.flatten()
    inverse = (1 / scores)[:, None].expand_as(index).flatten()
    total = torch.zeros(patches, dtype=scores.dtype).index_add_(0, flat, inverse)
    return torch.bincount(flat, minlength=patches) / total


def harmonic_mean(maps: Sequence[Tensor]) -> Tensor:
    """Return the harmonic mean of equally large tensors, element by element."""
    return 1 / torch.stack([1 / part for part in maps]).mean(dim=0)
