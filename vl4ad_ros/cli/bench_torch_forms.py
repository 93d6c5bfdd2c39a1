"""Forms of PyTorch that the GPU bench compares: eager in mixed precision, compiled, and replayed as a CUDA graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vl4ad_ros.network.torch_engine import TorchEngine
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.engine import EngineInfo
from vl4ad_ros.runtime.prompt_tensors import PromptTensors


class MixedPrecision(nn.Module):
    """Runs a network under autocast, PyTorch's own way to float16."""

    def __init__(self, network: nn.Module, device: str) -> None:
        """Wrap a network; `device` is `cuda` or `cpu`."""
        super().__init__()
        self.network = network
        self.device_type = device

    def forward(self, *inputs: Tensor) -> Tensor:
        """The network's score as float32."""
        with torch.autocast(self.device_type, torch.float16):
            score: Tensor = self.network(*inputs)
        return score.float()


class CudaGraphEngine:
    """An eager network, recorded once as a CUDA graph and replayed on fixed buffers."""

    def __init__(self, bundle: ModelBundle, network: nn.Module, device: str = "cuda:0") -> None:
        """Wrap a network that is on the GPU; the graph is recorded with the first frame."""
        self._inner = TorchEngine(bundle, device, network=network)
        self._network = network
        self._device = torch.device(device)
        self._graph: Any = None
        self._inputs: list[Tensor] = []
        self._score: Tensor | None = None

    @property
    def info(self) -> EngineInfo:
        """What runs."""
        return self._inner.info

    def infer(self, images: NDArray[np.uint8], prompts: PromptTensors) -> NDArray[np.float32]:
        """Run a batch; the shapes are those of the first call."""
        arrays = [images, *(np.array(a) for a in prompts.graph_inputs().values())]
        if self._graph is None:
            self._record([torch.from_numpy(a).to(self._device) for a in arrays])
        assert self._score is not None
        self._inputs[0].copy_(torch.from_numpy(images))
        self._graph.replay()
        return np.asarray(self._score.cpu().numpy(), dtype=np.float32)

    def _record(self, inputs: list[Tensor]) -> None:
        self._inputs = inputs
        cuda: Any = torch.cuda  # partly without types
        stream = cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), torch.no_grad():
            for _ in range(3):
                self._network(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self._graph):
            self._score = self._network(*inputs)

    def close(self) -> None:
        """Free the graph and the network."""
        self._graph = self._score = None
        self._inputs = []
        self._inner.close()
