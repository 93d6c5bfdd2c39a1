"""TensorRT and CUDA for machines without a GPU: the engine's own code runs, the arithmetic is ONNX Runtime's.

Device memory is a second host allocation, copies and launches are queued and happen at the synchronisation (or at a
graph's replay), so that a forgotten copy, an unsynchronised read or a stale graph shows as a wrong number.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort

from vl4ad_ros.runtime.tensorrt_library import TensorRtLibrary


class FakeCuda:
    """Stands for `cuda.bindings.runtime`; `memory` and `graphs` are what is allocated and not freed."""

    cudaStreamNonBlocking = 1
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, name: str = "Fake GPU", capability: tuple[int, int] = (8, 9)) -> None:
        self.properties = SimpleNamespace(name=name.encode(), major=capability[0], minor=capability[1])
        self.memory: dict[int, Any] = {}
        self.queue: list[Callable[[], object]] = []
        self.capturing: list[Callable[[], object]] | None = None
        self.graphs: list[Any] = []

    def __getattr__(self, name: str) -> Callable[..., tuple[int]]:
        """Whatever else is called succeeds and does nothing."""
        if not name.startswith("cuda"):
            raise AttributeError(name)
        return lambda *_: (0,)

    def enqueue(self, work: Callable[[], object]) -> None:
        (self.queue if self.capturing is None else self.capturing).append(work)

    def cudaGetDeviceCount(self) -> tuple[int, int]:
        return 0, 1

    def cudaGetDeviceProperties(self, device: int) -> tuple[int, Any]:
        return 0, self.properties

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int, int]:
        return 0, 77

    def cudaMalloc(self, nbytes: int) -> tuple[int, int]:
        block = (ctypes.c_uint8 * nbytes)(*([171] * min(nbytes, 64)))
        self.memory[ctypes.addressof(block)] = block
        return 0, ctypes.addressof(block)

    cudaMallocHost = cudaMalloc

    def cudaFree(self, pointer: int) -> tuple[int]:
        del self.memory[pointer]
        return (0,)

    cudaFreeHost = cudaFree

    def cudaMemcpyAsync(self, dst: int, src: int, nbytes: int, kind: int, stream: int) -> tuple[int]:
        assert stream == 77
        self.enqueue(lambda: ctypes.memmove(dst, src, nbytes))
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        while self.queue:
            self.queue.pop(0)()
        return (0,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:
        assert not self.queue, "capture began with work still queued"
        self.capturing = []
        return (0,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, Any]:
        graph, self.capturing = self.capturing, None
        return 0, graph

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[int, Any]:
        self.graphs.append(graph)
        return 0, graph

    def cudaGraphExecDestroy(self, graph: Any) -> tuple[int]:
        self.graphs.remove(graph)
        return (0,)

    def cudaGraphLaunch(self, graph: Any, stream: int) -> tuple[int]:
        self.queue.extend(graph)
        return (0,)

    def cudaGetErrorString(self, error: int) -> tuple[int, bytes]:
        return 0, b"fake failure"


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name == "score":
            batch, height, width, _ = self.shapes["image"]
            return batch, height // self.engine.stride, width // self.engine.stride
        if name == "image":
            return self.shapes["image"]
        return tuple(next(i.shape for i in self.engine.session.get_inputs() if i.name == name))

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address in self.engine.cuda.memory
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        shapes = {name: self.get_tensor_shape(name) for name in self.addresses}
        addresses = dict(self.addresses)

        def array(name: str, dtype: Any) -> np.ndarray:
            count = int(np.prod(shapes[name]))
            pointer = ctypes.cast(addresses[name], ctypes.POINTER(ctypes.c_uint8))
            flat: np.ndarray = np.ctypeslib.as_array(pointer, (count * np.dtype(dtype).itemsize,)).view(dtype)
            return flat.reshape(shapes[name])

        def run() -> None:
            kinds = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(int32)": np.int32}
            inputs = {i.name: array(i.name, kinds[i.type]) for i in self.engine.session.get_inputs()}
            array("score", np.float32)[:] = self.engine.session.run(["score"], inputs)[0]

        self.engine.cuda.enqueue(run)
        return True


class _Engine:
    def __init__(self, cuda: FakeCuda, onnx: bytes, stride: int) -> None:
        self.cuda, self.stride = cuda, stride
        self.session = ort.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        self.names: list[str] = [*(i.name for i in self.session.get_inputs()), "score"]
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def create_execution_context(self, config: Any = None) -> _Context:
        return _Context(self)

    def create_runtime_config(self) -> Any:
        cache = SimpleNamespace(deserialize=lambda blob: blob == b"kernels", serialize=lambda: b"kernels")
        return SimpleNamespace(create_runtime_cache=lambda: cache, set_runtime_cache=lambda c: True)


def fake_library(name: str, cuda: FakeCuda, stride: int, version: str = "10.99") -> TensorRtLibrary:
    """A TensorRT whose plan is the ONNX graph itself, with `PLAN` in front."""
    module: Any = ModuleType(name)
    module.__version__ = version

    class ILogger:
        Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3, VERBOSE=4)

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
            if not plan.startswith(b"PLAN"):
                self.logger.log(1, "magic tag does not match")
                return None
            return _Engine(cuda, plan[4:], stride)

    class Builder:
        def __init__(self, logger: Any) -> None:
            self.config = SimpleNamespace(
                add_optimization_profile=lambda profile: 0,
                set_memory_pool_limit=lambda pool, size: None,
                create_timing_cache=lambda blob: SimpleNamespace(serialize=lambda: blob + b"t"),
                set_timing_cache=lambda cache, ignore: True,
            )

        def create_network(self, flags: int) -> Any:
            return SimpleNamespace()

        def create_builder_config(self) -> Any:
            return self.config

        def create_optimization_profile(self) -> Any:
            return SimpleNamespace(set_shape=lambda *shapes: None)

        def build_serialized_network(self, network: Any, config: Any) -> bytes:
            plan: bytes = b"PLAN" + network.onnx
            return plan

    class OnnxParser:
        num_errors = 0

        def __init__(self, network: Any, logger: Any) -> None:
            self.network = network

        def parse_from_file(self, path: str) -> bool:
            self.network.onnx = Path(path).read_bytes()
            return True

    class IProgressMonitor:
        pass

    module.IProgressMonitor = IProgressMonitor
    module.ILogger, module.Runtime, module.Builder, module.OnnxParser = ILogger, Runtime, Builder, OnnxParser
    module.NetworkDefinitionCreationFlag = SimpleNamespace()
    module.MemoryPoolType = SimpleNamespace(WORKSPACE=0)
    module.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER=1)
    return TensorRtLibrary(name, module)
