"""Creating an engine by the backend's name: what is asked for runs, or an error says how to get it."""

from __future__ import annotations

import importlib

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.engine import Engine

_ONNX_RUNTIME = ("onnxruntime", "onnxruntime-cuda")
_TENSORRT = ("tensorrt", "tensorrt_rtx")
_TORCH = ("torch", "torch-cuda", "torch-compile", "torch-compile-cuda")

BACKENDS: tuple[str, ...] = (*_ONNX_RUNTIME, *_TENSORRT, *_TORCH)


def create_engine(bundle: ModelBundle, backend: str = "onnxruntime", threads: int = 0, device_id: int = 0) -> Engine:
    """Load a bundle's graph into a backend.

    Args:
        bundle: The model bundle.
        backend: One of `BACKENDS`.
        threads: CPU threads (ONNX Runtime); 0 lets the library choose.
        device_id: Number of the GPU.

    Raises:
        Vl4adError: If the backend is unknown or not available here.
    """
    if backend in _ONNX_RUNTIME:
        from vl4ad_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(bundle, "cuda" if backend.endswith("cuda") else "cpu", threads, device_id)
    if backend in _TENSORRT:
        from vl4ad_ros.runtime.tensorrt_engine import TensorRtEngine

        return TensorRtEngine(bundle, backend, device_id)
    if backend in _TORCH:
        # By name: what a vehicle carries does not depend on the room that needs torch.
        torch_engine = importlib.import_module("vl4ad_ros.network.torch_engine")
        device = f"cuda:{device_id}" if backend.endswith("cuda") else "cpu"
        engine: Engine = torch_engine.TorchEngine(bundle, device, compiled="compile" in backend)
        return engine
    raise Vl4adError(f"Unknown backend: expected one of {list(BACKENDS)}, got '{backend}'.")
