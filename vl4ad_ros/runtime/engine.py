"""Inference engines: what every backend offers, and making one by the backend's name."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.prompt_tensors import PromptTensors

GRAPH_INPUTS: tuple[str, ...] = ("image", "text_embeddings", "class_concepts", "class_mask", "settings")
GRAPH_OUTPUT = "score"

_ONNX_RUNTIME = ("onnxruntime", "onnxruntime-cuda")
_TENSORRT = ("tensorrt", "tensorrt_rtx")
_TORCH = ("torch", "torch-cuda", "torch-compile", "torch-compile-cuda")

BACKENDS: tuple[str, ...] = (*_ONNX_RUNTIME, *_TENSORRT, *_TORCH)


@dataclass(frozen=True)
class EngineInfo:
    """What runs, for the log, diagnostics and every result file."""

    backend: str
    device: str  # where it computes, e.g. `cpu` or the GPU's name.
    library: str  # library and version
    model: str  # file that was loaded
    model_sha256: str  # hash of the ONNX graph behind it
    precision: str  # precision of the graph


class Engine(Protocol):
    """A loaded graph. Used from one thread at a time."""

    @property
    def info(self) -> EngineInfo:
        """What runs."""
        ...

    def infer(self, images: NDArray[np.uint8], prompts: PromptTensors) -> NDArray[np.float32]:
        """Run the network and the score on a batch uint8 [B, H, W, 3], RGB, contiguous, at the network's input size.

        The frame uses exactly `prompts`; an engine that keeps prompt buffers updates them before the run when the
        object is not the one it saw last. Returns the raw score u, float32 [B, h, w], higher = more anomalous, which
        the caller owns.
        """
        ...

    def close(self) -> None:
        """Free the engine's memory; it cannot be used afterwards."""
        ...


def check_images(images: NDArray[np.uint8]) -> None:
    """Check the common part of an engine's input."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise Vl4adError(f"The engine takes uint8 images [batch, height, width, 3], got {images.dtype} {images.shape}.")


def create_engine(bundle: ModelBundle, backend: str = "onnxruntime", threads: int = 0, device_id: int = 0) -> Engine:
    """Load a bundle's graph into one of `BACKENDS`; 0 CPU threads: the library chooses."""
    if backend in _ONNX_RUNTIME:
        from vl4ad_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(bundle, "cuda" if backend.endswith("cuda") else "cpu", threads, device_id)
    if backend in _TENSORRT:
        from vl4ad_ros.runtime.tensorrt_engine import TensorRtEngine

        return TensorRtEngine(bundle, backend, device_id)
    if backend in _TORCH:
        # By name: what a vehicle carries does not depend on the room that needs torch.
        try:
            torch_engine = importlib.import_module("vl4ad_ros.network.torch_engine")
        except ImportError as error:
            raise Vl4adError(
                f"PyTorch cannot be imported ({error}); get it with: pip install 'vl4ad_ros[export]'."
            ) from error
        device = f"cuda:{device_id}" if backend.endswith("cuda") else "cpu"
        engine: Engine = torch_engine.TorchEngine(bundle, device, compiled="compile" in backend)
        return engine
    raise Vl4adError(f"Unknown backend: expected one of {list(BACKENDS)}, got '{backend}'.")
