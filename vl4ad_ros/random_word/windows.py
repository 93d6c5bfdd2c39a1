"""Sliding windows over CLIP's image tower, and maps from window scores (WinCLIP, arXiv 2303.14814).

A window is k x k patches of the tower's grid, at every position. Patch tokens (or a convolutional trunk's features) are
computed once per image and shared by all windows; the windows of a scale run as one batch. In a vision transformer a
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


class WindowTower(ABC):
    """An image tower that embeds windows.

    Attributes:
        visual: open_clip's tower.
        size: Rows and columns of its input.
        batch: Windows that run at once.
    """

    def __init__(self, visual: Any, batch: int = 256) -> None:
        size = visual.image_size
        self.visual, self.batch = visual, batch
        self.size: tuple[int, int] = tuple(size) if isinstance(size, tuple) else (size, size)
        config = getattr(visual, "preprocess_cfg", None) or {}
        self._mean, self._std = (
            torch.tensor(config.get(name) or default).reshape(1, 3, 1, 1)
            for name, default in (("mean", _MEAN), ("std", _STD))
        )

    @property
    @abstractmethod
    def grid(self) -> tuple[int, int]:
        """Patches in a column and in a row."""

    def prepare(self, image: NDArray[np.uint8]) -> Tensor:
        """Resize an RGB image uint8 [H, W, 3] to the tower's input and normalise it: [1, 3, h, w]."""
        method = cv2.INTER_AREA if image.shape[0] > self.size[0] else cv2.INTER_CUBIC
        resized = torch.from_numpy(cv2.resize(image, self.size[::-1], interpolation=method))
        return (resized.permute(2, 0, 1)[None].float() / 255 - self._mean) / self._std

    @abstractmethod
    def shared(self, images: Tensor) -> Tensor:
        """Normalised images [B, 3, H, W] -> the features that all windows share."""

    def embed(self, shared: Tensor, index: Tensor) -> Tensor:
        """Embed windows.

        Args:
            shared: Of B images.
            index: int64 [n, k], patches of each window, row-major.

        Returns:
            [B, n, D], unit rows.
        """
        parts = [self._embed(part) for part in self._windows(shared, index).split(self.batch)]
        return F.normalize(torch.cat(parts), dim=-1).reshape(len(shared), len(index), -1)

    @abstractmethod
    def _windows(self, shared: Tensor, index: Tensor) -> Tensor:
        """Return the features of every window, [B * n, ...]."""

    @abstractmethod
    def _embed(self, windows: Tensor) -> Tensor:
        """Embed windows: [m, ...] -> [m, D]."""


class TransformerTower(WindowTower):
    """open_clip's own vision transformer, `open_clip.transformer.VisionTransformer`."""

    @property
    def grid(self) -> tuple[int, int]:
        """Patches in a column and in a row."""
        rows, columns = self.visual.grid_size
        return rows, columns

    def shared(self, images: Tensor) -> Tensor:
        """Return the tokens in front of the transformer, [B, 1 + patches, width], class token first."""
        tokens: Tensor = self.visual._embeds(images)
        return tokens

    def _windows(self, shared: Tensor, index: Tensor) -> Tensor:
        width = shared.shape[-1]
        patches = shared[:, 1:][:, index.flatten()].reshape(-1, index.shape[1], width)
        first = shared[:, :1].expand(-1, len(index), -1).reshape(-1, 1, width)
        return torch.cat([first, patches], dim=1)

    def _embed(self, windows: Tensor) -> Tensor:
        pooled: Tensor = self.visual._pool(self.visual.transformer(windows))[0]
        return pooled if self.visual.proj is None else pooled @ self.visual.proj


class ConvolutionalTower(WindowTower):
    """A timm trunk with a feature map and a pooling head (ConvNeXt), `open_clip.timm_model.TimmModel`."""

    @property
    def grid(self) -> tuple[int, int]:
        """Cells of the feature map in a column and in a row."""
        reduction = int(self.visual.trunk.feature_info[-1]["reduction"])
        return self.size[0] // reduction, self.size[1] // reduction

    def shared(self, images: Tensor) -> Tensor:
        """Return the trunk's features, [B, C, rows, columns]."""
        features: Tensor = self.visual.trunk.forward_features(images)
        return features

    def _windows(self, shared: Tensor, index: Tensor) -> Tensor:
        batch, channels, count = len(shared), shared.shape[1], len(index)
        cells = shared.flatten(2)[:, :, index.flatten()].reshape(batch, channels, count, -1)
        # The head averages over all places: one row of k places does as well as a square.
        return cells.transpose(1, 2).reshape(batch * count, channels, 1, -1)

    def _embed(self, windows: Tensor) -> Tensor:
        embedding: Tensor = self.visual.head(self.visual.trunk.forward_head(windows))
        return embedding


def wrap_tower(visual: Any) -> WindowTower:
    """Return the window form of the image tower `model.visual` of an open_clip model.

    Raises:
        Vl4adError: If it is neither a vision transformer of open_clip's own nor a convolutional timm trunk.
    """
    if hasattr(visual, "_embeds") and hasattr(visual, "grid_size"):
        return TransformerTower(visual)
    trunk = getattr(visual, "trunk", None)
    if hasattr(trunk, "stages") and hasattr(trunk, "forward_head"):
        return ConvolutionalTower(visual)
    raise Vl4adError(
        f"Windows need an open_clip vision transformer (ViT-...) or a ConvNeXt tower, got {type(visual).__name__}."
    )


def window_index(grid: tuple[int, int], size: int) -> Tensor:
    """Return the patches of every k x k window, int64 [n, k * k], row-major; a larger k is cut to the grid.

    Args:
        grid: Patches in a column and in a row.
        size: k.
    """
    height, width = min(size, grid[0]), min(size, grid[1])
    patches = torch.arange(grid[0] * grid[1]).reshape(grid)
    windows = patches.unfold(0, height, 1).unfold(1, width, 1)
    return windows.reshape(-1, height * width)


def harmonic_map(scores: Tensor, index: Tensor, patches: int) -> Tensor:
    """Spread window scores over patches: the harmonic mean of the windows that cover a patch.

    Args:
        scores: [n], > 0.
        index: int64 [n, k].
        patches: Patches of the grid, each covered at least once.

    Returns:
        [patches].
    """
    flat = index.flatten()
    inverse = (1 / scores)[:, None].expand_as(index).flatten()
    total = torch.zeros(patches, dtype=scores.dtype).index_add_(0, flat, inverse)
    return torch.bincount(flat, minlength=patches) / total


def harmonic_mean(maps: Sequence[Tensor]) -> Tensor:
    """Return the harmonic mean of equally large tensors, element by element."""
    return 1 / torch.stack([1 / part for part in maps]).mean(dim=0)
