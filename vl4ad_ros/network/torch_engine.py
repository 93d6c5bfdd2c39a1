"""The PyTorch backends, eager and compiled: the reference for the others, not for the vehicle."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.checkpoint import load_bundled_network
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.engine import EngineInfo, check_images
from vl4ad_ros.runtime.prompt_tensors import PromptTensors


class TorchEngine:
    """A bundle's PyTorch network as an engine."""

    def __init__(
        self,
        bundle: ModelBundle,
        device: str = "cpu",
        compiled: bool = False,
        network: torch.nn.Module | None = None,
    ) -> None:
        """Load a network, by default the bundle's own; `compiled`, the first frame of a shape takes long."""
        cuda = device.startswith("cuda")
        if cuda and not torch.cuda.is_available():
            raise Vl4adError(f"PyTorch {torch.__version__} finds no NVIDIA GPU here; its CPU backends are named torch.")
        loaded = network if network is not None else load_bundled_network(bundle)
        self._device = torch.device(device)
        loaded = loaded.eval().to(self._device)
        self._network: Any = torch.compile(loaded) if compiled else loaded
        self._prompts: PromptTensors | None = None
        self._prompt_inputs: list[torch.Tensor] = []
        self.info = EngineInfo(
            backend=("torch-compile" if compiled else "torch") + ("-cuda" if cuda else ""),
            device=torch.cuda.get_device_name(self._device) if cuda else "cpu",
            library=f"torch {torch.__version__}",
            model=f"{bundle.path}/network",
            model_sha256=bundle.onnx_sha256,
            precision="float32",
        )

    def infer(self, images: NDArray[np.uint8], prompts: PromptTensors) -> NDArray[np.float32]:
        """Run the network and the score on a batch; see `Engine.infer`."""
        check_images(images)
        if prompts is not self._prompts:
            # Copies: the arrays are read-only, which torch does not know of.
            arrays = prompts.graph_inputs().values()
            self._prompt_inputs = [torch.from_numpy(np.array(a)).to(self._device) for a in arrays]
            self._prompts = prompts
        batch = torch.from_numpy(np.ascontiguousarray(images)).to(self._device)
        try:
            with torch.no_grad():
                score = self._network(batch, *self._prompt_inputs)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:400]
            raise Vl4adError(f"PyTorch could not run the network on {images.shape}: {reason}") from error
        return np.array(score.float().cpu().numpy(), dtype=np.float32)

    def close(self) -> None:
        """Free the network."""
        self._network = self._prompts = None
        self._prompt_inputs = []
