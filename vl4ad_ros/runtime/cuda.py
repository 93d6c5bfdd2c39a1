"""What an engine needs of CUDA, through cuda-python: pinned and device memory, one stream, recorded graphs."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.engine_card import Gpu


@dataclass(frozen=True)
class Buffer:
    """One tensor's memory: page-locked on the host, uint8 [nbytes], and its address on the GPU."""

    host: NDArray[np.uint8]
    device: int


@dataclass(frozen=True)
class RecordedGraph:
    """A CUDA graph: `replay` enqueues all that was recorded, with one call; `close` frees it."""

    replay: Callable[[], object]
    close: Callable[[], object]


class CudaDevice:
    """One GPU with one stream. Owns the memory that it hands out; `close` frees all of it."""

    def __init__(self, device_id: int = 0, runtime: Any = None) -> None:
        """Open a GPU; `runtime` is the module `cuda.bindings.runtime`, or a stand-in for tests."""
        try:
            self._rt = runtime or importlib.import_module("cuda.bindings.runtime")
        except ImportError as missing:
            raise Vl4adError(
                f"The TensorRT backend needs cuda-python ({missing}); get it with: pip install cuda-python."
            ) from missing
        self._device_id = device_id
        error, count = self._rt.cudaGetDeviceCount()
        if int(error) != 0 or not count:
            reason = self._describe(error) if int(error) else "none found"
            raise Vl4adError(f"No NVIDIA GPU can be used here ({reason}).")
        if device_id >= count:
            raise Vl4adError(f"There is no GPU {device_id}: this machine has {count}, numbered from 0.")
        self._free: list[Callable[[], object]] = []
        self.select()
        stream = self._do("cudaStreamCreateWithFlags", self._rt.cudaStreamNonBlocking)
        self.stream = int(stream)  # the stream's handle, as a number
        self._free.append(lambda: self._rt.cudaStreamDestroy(stream))

    def _describe(self, error: Any) -> str:
        return str(self._rt.cudaGetErrorString(error)[1].decode())

    def _do(self, name: str, *arguments: Any) -> Any:
        """Call a function of the CUDA runtime and return its result; a CUDA error becomes a sentence."""
        error, *results = getattr(self._rt, name)(*arguments)
        if int(error) != 0:
            raise Vl4adError(f"CUDA failed in {name}: {self._describe(error)}.")
        return results[0] if len(results) == 1 else results

    def select(self) -> None:
        """Make this GPU the calling thread's current one; CUDA keeps that per thread."""
        self._do("cudaSetDevice", self._device_id)

    def gpu(self) -> Gpu:
        """Return the GPU's name and compute capability."""
        properties = self._do("cudaGetDeviceProperties", self._device_id)
        name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
        return Gpu(name=name.rstrip("\0"), compute_capability=f"{properties.major}.{properties.minor}")

    def versions(self) -> dict[str, str]:
        """Return the versions of driver and runtime, e.g. `13.0`."""
        numbers = {"cuda_driver": self._do("cudaDriverGetVersion"), "cuda_runtime": self._do("cudaRuntimeGetVersion")}
        return {name: f"{number // 1000}.{number % 1000 // 10}" for name, number in numbers.items()}

    def used_bytes(self) -> int:
        """Return the GPU memory in use, by this and every other process."""
        free, total = self._do("cudaMemGetInfo")
        return int(total) - int(free)

    def allocate(self, nbytes: int) -> Buffer:
        """Return memory for a tensor, zeroed on the host."""
        pinned = self._do("cudaMallocHost", nbytes)
        self._free.append(lambda: self._rt.cudaFreeHost(pinned))
        device = int(self._do("cudaMalloc", nbytes))
        self._free.append(lambda: self._rt.cudaFree(device))
        host = np.ctypeslib.as_array(ctypes.cast(int(pinned), ctypes.POINTER(ctypes.c_uint8)), (nbytes,))
        host[:] = 0
        return Buffer(host, device)

    def upload(self, buffer: Buffer, nbytes: int) -> None:
        """Enqueue a copy of a buffer's first bytes to the device."""
        kind = self._rt.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._do("cudaMemcpyAsync", buffer.device, buffer.host.ctypes.data, nbytes, kind, self.stream)

    def download(self, buffer: Buffer, nbytes: int) -> None:
        """Enqueue a copy of a buffer's first bytes from the device."""
        kind = self._rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._do("cudaMemcpyAsync", buffer.host.ctypes.data, buffer.device, nbytes, kind, self.stream)

    def synchronize(self) -> None:
        """Wait for everything that was enqueued."""
        self._do("cudaStreamSynchronize", self.stream)

    def capture(self, enqueue: Callable[[], None]) -> RecordedGraph:
        """Record what a function enqueues as a CUDA graph; the caller closes it before the device."""
        # Only this thread: another thread's CUDA calls (a second camera's engine) must not break the recording.
        self._do("cudaStreamBeginCapture", self.stream, self._rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            enqueue()
        except BaseException:
            self._rt.cudaStreamEndCapture(self.stream)
            raise
        graph = self._do("cudaStreamEndCapture", self.stream)
        recorded = self._do("cudaGraphInstantiate", graph, 0)
        self._do("cudaGraphDestroy", graph)
        return RecordedGraph(
            lambda: self._do("cudaGraphLaunch", recorded, self.stream),
            lambda: self._do("cudaGraphExecDestroy", recorded),
        )

    def close(self) -> None:
        """Wait for the stream and free everything."""
        if self._free:
            self.select()
            self._rt.cudaStreamSynchronize(self.stream)
        while self._free:
            self._free.pop()()
