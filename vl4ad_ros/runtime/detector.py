"""The detector without ROS: from camera images to uncertainty maps and anomaly masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.engine import Engine
from vl4ad_ros.runtime.engine_factory import create_engine
from vl4ad_ros.runtime.prompt_tensors import PromptTensors, pack
from vl4ad_ros.runtime.random_word_files import METHOD, graph_inputs, load_bundled
from vl4ad_ros.runtime.random_word_network import DEFAULT, RandomWordNetwork
from vl4ad_ros.runtime.score_names import DEFAULT_SCORING
from vl4ad_ros.runtime.uncertainty import to_uncertainty


class Detector:
    """A bundle in an engine. Holds no prompt set: each call names the one that it uses, so that no frame can mix two.

    Attributes:
        bundle: The model bundle.
        engine: The loaded engine.
    """

    def __init__(self, bundle: ModelBundle, engine: Engine) -> None:
        self.bundle = bundle
        self.engine = engine

    @classmethod
    def open(
        cls,
        bundle: str | Path,
        backend: str = "onnxruntime",
        threads: int = 0,
        device_id: int = 0,
        auto_build: bool = False,
        max_batch: int = 1,
    ) -> Detector:
        """Load a bundle by name or path into a backend.

        Args:
            bundle: Name of an installed bundle, or a folder.
            backend: One of `vl4ad_ros.runtime.engine_factory.BACKENDS`.
            threads: CPU threads (ONNX Runtime); 0 lets the library choose.
            device_id: Number of the GPU.
            auto_build: Whether a missing or stale TensorRT engine is built here, which takes minutes; the log says why.
            max_batch: Batch that an engine built so must accept.

        Raises:
            Vl4adError: If the bundle is missing or damaged, or the backend is not available.
        """
        loaded = ModelBundle.load(bundle)
        if auto_build and backend.startswith("tensorrt"):
            from vl4ad_ros.runtime.tensorrt_ensure import ensure_engine

            ensure_engine(loaded, backend, max_batch, device_id)
        return cls(loaded, create_engine(loaded, backend, threads, device_id))

    def prompts(
        self,
        prompt_set: str | Path | None = None,
        scoring: str = DEFAULT_SCORING,
        temperature: float | None = None,
        method: str = "vl4ad",
        random_word: str | Path | RandomWordNetwork | None = None,
    ) -> PromptTensors:
        """Load a compiled prompt set of the bundle and pack it for the graph.

        Args:
            prompt_set: Name or `.safetensors` file; None takes the bundle's default.
            scoring: Name of the score.
            temperature: Overrides the set's and the model's temperature.
            method: `vl4ad`, `random_word` or `both`.
            random_word: The random-word network: its name in the bundle, a file, or the network itself; None takes the
                bundle's default.

        Raises:
            Vl4adError: If the set or the network is missing, damaged or of another text encoder, or a setting is out of
                range.
        """
        card = self.bundle.card
        self._check_method(method)
        compiled = self.bundle.load_prompt_set(prompt_set)
        inputs = graph_inputs(self.bundle, method, DEFAULT if random_word is None else random_word)
        return pack(compiled, card.prompt_limits, card.temperature, scoring, temperature, method, inputs)

    def random_word(self, name_or_path: str | Path | None, method: str) -> RandomWordNetwork | None:
        """Load the random-word network that a method runs with; None for `vl4ad`, which has none.

        Args:
            name_or_path: Its name in the bundle, or a `.safetensors` file: read and checked with any method. None takes
                the bundle's default where the method needs one.
            method: `vl4ad`, `random_word` or `both`.

        Raises:
            Vl4adError: If the bundle lacks the method, or the network is missing, damaged or of another text encoder.
        """
        self._check_method(method)
        if name_or_path is None and method == "vl4ad":
            return None
        self._check_method(METHOD)
        network = load_bundled(self.bundle, name_or_path or DEFAULT)
        return None if method == "vl4ad" else network

    def _check_method(self, method: str) -> None:
        card = self.bundle.card
        for name in ("vl4ad", METHOD) if method == "both" else (method,):
            if name not in card.methods:
                raise Vl4adError(f"Bundle '{card.name}' has no method '{name}': expected one of {card.methods}.")

    def preprocess(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize an RGB image uint8 [H, W, 3] to the network's input size.

        Raises:
            Vl4adError: If it is not an RGB image of at least 8 x 8 pixels.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < 8:
            raise Vl4adError(
                f"Expected an RGB image uint8 [height, width, 3] of at least 8x8, got {image.dtype} {image.shape}."
            )
        height, width = self.bundle.network_size(image.shape[0], image.shape[1])
        if (height, width) == image.shape[:2]:
            return np.ascontiguousarray(image)
        # Halving by area, then bilinear: five times faster than one area resize by an odd factor, and free of aliasing.
        while image.shape[0] >= 2 * height and image.shape[1] >= 2 * width:
            half = (image.shape[1] // 2, image.shape[0] // 2)
            image = np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)

    def infer(self, inputs: Sequence[NDArray[np.uint8]], prompts: PromptTensors) -> NDArray[np.float32]:
        """Run preprocessed images of one size as a batch.

        Returns:
            Published uncertainty in [0, 1], float32 [B, h, w], at the score's resolution.
        """
        batch = inputs[0][None] if len(inputs) == 1 else np.stack(inputs)
        return to_uncertainty(self.engine.infer(batch, prompts), prompts.scoring, prompts.temperature)

    def detect(self, image: NDArray[np.uint8], prompts: PromptTensors) -> NDArray[np.float32]:
        """Return the uncertainty map of one RGB image at the image's size, float32 [H, W] in [0, 1]."""
        scores = self.infer([self.preprocess(image)], prompts)[0]
        return upsample(scores, image.shape[0], image.shape[1])

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()


def upsample(
    scores: NDArray[np.float32], height: int, width: int, into: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Resize an uncertainty map bilinearly to height x width; the range stays.

    Args:
        scores: float32 [h, w].
        height: Rows of the result.
        width: Columns of the result.
        into: Contiguous array [height, width] to write the result into; None makes one where it is needed.

    Returns:
        float32 [height, width]: `into` where it is given; else `scores` itself where that has the size.
    """
    if scores.shape == (height, width):
        return scores if into is None else _kept(into, scores)
    resized = cv2.resize(scores, (width, height), dst=into, interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.float32) if into is None else _kept(into, resized)


def anomaly_mask(
    uncertainty: NDArray[np.float32], threshold: float, into: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Return 255 where the uncertainty is at or above the threshold, else 0: uint8, same shape.

    Args:
        uncertainty: float32 [H, W].
        threshold: In [0, 1].
        into: As of `upsample`, uint8.
    """
    # OpenCV's type information lacks the comparison with a number.
    mask = cv2.compare(uncertainty, float(threshold), cv2.CMP_GE, into)  # type: ignore[call-overload]
    return np.asarray(mask, dtype=np.uint8) if into is None else _kept(into, mask)


def _kept(into: NDArray[Any], result: Any) -> NDArray[Any]:
    """Return `into` with a result that OpenCV was to write there; where it could not, it made an array of its own."""
    if not np.shares_memory(into, result):
        np.copyto(into, result)
    return into
