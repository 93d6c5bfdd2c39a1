"""The detector node around an engine that does nothing: what it measures is everything else."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.nodes.detector import NAME, DetectorNode
from vl4ad_ros.nodes.spin import run_node
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.engine import EngineInfo, check_images
from vl4ad_ros.runtime.prompt_tensors import PromptTensors


class NullEngine:
    """Answers at once, with a fixed ramp of the bundle's output size."""

    def __init__(self, bundle: ModelBundle) -> None:
        self._bundle = bundle
        self.info = EngineInfo(
            backend="null", device="none", library="", model="", model_sha256=bundle.onnx_sha256, precision="none"
        )

    def infer(self, images: NDArray[np.uint8], prompts: PromptTensors) -> NDArray[np.float32]:
        """Return u from -1 to 0, float32 [B, h, w], whatever the images show."""
        del prompts
        check_images(images)
        stride = self._bundle.card.stride
        rows, columns = images.shape[1] // stride, images.shape[2] // stride
        ramp = np.linspace(-1, 0, columns, dtype=np.float32)
        return np.array(np.broadcast_to(ramp, (len(images), rows, columns)))

    def close(self) -> None:
        """Nothing is held."""


def open_null(bundle: str, *_: object) -> Detector:
    """Load a bundle's card and prompts, and no network."""
    loaded = ModelBundle.load(bundle)
    return Detector(loaded, NullEngine(loaded))


def main(args: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run_node(lambda: DetectorNode(open_null), NAME, args)


if __name__ == "__main__":
    sys.exit(main())
