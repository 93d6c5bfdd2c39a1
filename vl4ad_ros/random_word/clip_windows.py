"""The method on CLIP's own image tower: image scores and maps from windows of several sizes (needs open_clip)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vl4ad_ros import __version__
from vl4ad_ros.evaluation.frames import Frame
from vl4ad_ros.evaluation.predictor import Prediction
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.prompts.open_clip_encoder import OpenClipEncoder
from vl4ad_ros.random_word.gap import Reference, close_gap, read_images
from vl4ad_ros.random_word.settings import load_family
from vl4ad_ros.random_word.training import prompt_guided
from vl4ad_ros.random_word.windows import WindowTower, harmonic_map, harmonic_mean, window_index, wrap_tower
from vl4ad_ros.runtime.frames import upsample
from vl4ad_ros.runtime.random_word_network import RandomWordNetwork, load_network

_SMALLEST = 1e-6  # Keeps harmonic means finite.


@dataclass(frozen=True)
class ClipWindowSpec:
    """How to open a CLIP model with a random-word network, in any process."""

    model: str  # `open_clip:MODEL/PRETRAINED`
    # The network's `.safetensors` file; or a prompt family (name or YAML file), whose prompts are compared by their
    # cosines without any training.
    network: str
    weights: Path | None = None  # local weights file of the model
    windows: tuple[int, ...] = (2, 3)  # window sizes in patches, beside the whole image
    images: Path | None = None  # folder of unlabelled images to close the gap with; None leaves it open
    max_images: int = 16  # images used of them
    reference: Reference = "normal"  # what the images show, see `close_gap`

    def open(self) -> ClipWindowPredictor:
        """Load the model and the network."""
        images = [] if self.images is None else read_images(self.images, self.max_images)
        is_file = self.network.endswith(".safetensors")
        given = load_network(self.network) if is_file else load_family(self.network)
        encoder = OpenClipEncoder(self.model, self.weights)
        network = given if isinstance(given, RandomWordNetwork) else prompt_guided(given, encoder)
        predictor = ClipWindowPredictor(wrap_tower(encoder.visual), encoder.id, network, self.windows)
        if images:
            predictor.close_gap(images, self.reference)
        return predictor


class ClipWindowPredictor:
    """A random-word network on the windows of a CLIP image tower.

    Attributes:
        network: The network, with its gap open or closed.
    """

    default_threshold = 0.5

    def __init__(self, tower: WindowTower, model: str, network: RandomWordNetwork, windows: Sequence[int]) -> None:
        """Join the image tower of a model and a network of its text space, for windows of some sizes in patches."""
        if network.encoder_id != model:
            raise Vl4adError(f"The network was trained with '{network.encoder_id}', the image tower is '{model}'.")
        if any(size < 1 for size in windows):
            raise Vl4adError(f"Window sizes must be at least 1 patch, got {list(windows)}.")
        self.network, self._tower, self._windows = network, tower, tuple(windows)
        # The whole image first.
        self._scales = [window_index(tower.grid, size) for size in (max(tower.grid), *windows)]

    def describe(self) -> dict[str, Any]:
        """Return model, network and windows, for `result.json`."""
        return {
            "bundle": self.network.encoder_id,
            "engine": {"backend": "clip_windows", "library": f"torch {torch.__version__}, vl4ad_ros {__version__}"},
            "method": "random_word",
            "random_word": self.network.summary(),
            "windows": list(self._windows),
            "gap": self.network.card.get("gap"),
        }

    def embed(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Return the unit embeddings of an RGB image's windows by scale, the whole image first: [n, D] each."""
        return [part.numpy() for part in self._tower.embed(self._tower.prepare(image), self._scales)]

    def close_gap(self, images: Sequence[NDArray[np.uint8]], reference: Reference) -> None:
        """Move the image cloud onto the text cloud; see `vl4ad_ros.random_word.gap`."""
        rows = np.concatenate([part for image in images for part in self.embed(image)])
        note = {"images": len(images), "windows": len(rows)}
        self.network = close_gap(self.network, rows.mean(axis=0), reference, note)

    def predict(self, frame: Frame) -> Prediction:
        """Return the map at the size of the labels (or image); the image's score is that of the whole image."""
        began = time.perf_counter()
        scores = [
            torch.from_numpy(self.network.probability(part)).clamp(min=_SMALLEST) for part in self.embed(frame.image)
        ]
        rows, columns = self._tower.grid
        maps = [harmonic_map(part, index, rows * columns) for part, index in zip(scores, self._scales, strict=True)]
        small = harmonic_mean(maps).reshape(rows, columns).numpy()
        height, width = frame.image.shape[:2] if frame.labels is None else frame.labels.shape
        uncertainty = upsample(small, height, width)
        return Prediction(uncertainty, {"total": (time.perf_counter() - began) * 1e3}, float(scores[0][0]))

    def close(self) -> None:
        """Do nothing: the memory goes with the object."""
