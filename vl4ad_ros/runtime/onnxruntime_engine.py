"""The ONNX Runtime backend, on the CPU or through its CUDA provider."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.engine import GRAPH_INPUTS, GRAPH_OUTPUT, EngineInfo, check_images
from vl4ad_ros.runtime.prompt_tensors import PromptTensors

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntimeEngine:
    """Runs a bundle's ONNX graph in ONNX Runtime."""

    def __init__(self, bundle: ModelBundle, device: str = "cpu", threads: int = 0, device_id: int = 0) -> None:
        """Load the graph; `threads` inside one operator, 0 lets ONNX Runtime choose (one per core)."""
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise Vl4adError(
                f"ONNX Runtime cannot be imported ({error}); get it with: pip install onnxruntime."
            ) from error
        provider = _PROVIDERS[device]
        if provider not in ort.get_available_providers():
            raise Vl4adError(
                f"This ONNX Runtime ({ort.__version__}) has no {provider}; replace it with: "
                "pip uninstall onnxruntime && pip install onnxruntime-gpu."
            )
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        # Idle threads that spin would take the cores from decoding and publishing.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        provider_options = {"device_id": str(device_id)} if device == "cuda" else {}
        try:
            self._session: Any = ort.InferenceSession(
                str(bundle.onnx_path), options, providers=[(provider, provider_options)]
            )
        except Exception as error:  # ONNX Runtime's own exception classes are private.
            raise Vl4adError(f"{bundle.onnx_path}: ONNX Runtime cannot load the graph ({error}).") from error
        if provider not in self._session.get_providers():
            raise Vl4adError(
                f"ONNX Runtime {ort.__version__} could not start {provider} "
                f"(it offered {self._session.get_providers()}): check the CUDA and cuDNN versions that it needs."
            )
        names = {node.name for node in self._session.get_inputs()}
        if not set(GRAPH_INPUTS) <= names or [o.name for o in self._session.get_outputs()] != [GRAPH_OUTPUT]:
            raise Vl4adError(
                f"{bundle.onnx_path}: not a vl4ad graph, its inputs are {sorted(names)}; expected {list(GRAPH_INPUTS)}."
            )
        self.info = EngineInfo(
            backend="onnxruntime" if device == "cpu" else "onnxruntime-cuda",
            device=device if device == "cpu" else f"cuda:{device_id}",
            library=f"onnxruntime {ort.__version__}",
            model=str(bundle.onnx_path),
            model_sha256=bundle.onnx_sha256,
            precision=bundle.card.precision,
        )

    def infer(self, images: NDArray[np.uint8], prompts: PromptTensors) -> NDArray[np.float32]:
        """Run the network and the score on a batch; see `Engine.infer`."""
        check_images(images)
        try:
            (score,) = self._session.run([GRAPH_OUTPUT], {"image": images, **prompts.graph_inputs()})
        except Exception as error:  # ONNX Runtime's own exception classes are private.
            raise Vl4adError(f"ONNX Runtime could not run {self.info.model} on {images.shape}: {error}") from error
        return np.asarray(score, dtype=np.float32)

    def close(self) -> None:
        """Free the session."""
        self._session = None
