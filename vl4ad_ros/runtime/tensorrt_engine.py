"""The TensorRT backend: `tensorrt` and `tensorrt_rtx`, without torch (docs/tensorrt.md).

A frame costs one copy into pinned memory, one replay of a CUDA graph (image up, network and score, map down), one copy
out into a new array, for whoever asked may keep it. Nothing of CUDA is allocated for it. A prompt swap adds four small
uploads before the replay; the graph reads the same buffers.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import write_bytes
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.cuda import Buffer, CudaDevice, RecordedGraph
from vl4ad_ros.runtime.engine import GRAPH_INPUTS, GRAPH_OUTPUT, EngineInfo, check_images
from vl4ad_ros.runtime.engine_card import EngineCard, check_fresh, engine_path, load_engine_card
from vl4ad_ros.runtime.prompt_tensors import PromptTensors
from vl4ad_ros.runtime.tensorrt_library import TensorRtLibrary, load_library

_MAX_RECORDED = 4
"""Image shapes whose CUDA graphs are kept, the least recent goes first; a rig has one or two."""

_logger = logging.getLogger("vl4ad_ros.tensorrt")


@dataclass(frozen=True)
class _Recorded:
    """A frame of one image shape, ready to be replayed."""

    context: Any  # the execution context; its own for each shape, for a graph is bound to what its context was set to
    graph: RecordedGraph  # image up, network and score, map down
    output: tuple[int, ...]  # shape of the map


class TensorRtEngine:
    """Runs a bundle's TensorRT engine."""

    def __init__(
        self,
        bundle: ModelBundle,
        library: TensorRtLibrary | str = "auto",
        device_id: int = 0,
        cuda: CudaDevice | None = None,
    ) -> None:
        """Load the engine that lies in the bundle; a stale one is refused."""
        self._library = load_library(library) if isinstance(library, str) else library
        self._card: EngineCard = load_engine_card(bundle, self._library.name)
        self._cuda = cuda or CudaDevice(device_id)
        try:
            self._open(bundle)
        except BaseException:
            self._cuda.close()
            raise

    def _open(self, bundle: ModelBundle) -> None:
        if TYPE_CHECKING:
            import tensorrt as trt
        else:
            trt = self._library.module
        gpu = self._cuda.gpu()
        check_fresh(self._card, bundle, self._library.version, gpu)
        path = engine_path(bundle, self._library.name)
        self._runtime: Any = trt.Runtime(self._library.log)
        self._engine: Any = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise Vl4adError(f"{self._library.name} cannot load {path}: {self._library.last_errors()}.")
        names = {self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)}
        if not {*GRAPH_INPUTS, GRAPH_OUTPUT} <= names:
            raise Vl4adError(f"{path}: not a vl4ad engine, its tensors are {sorted(names)}.")
        self._kernels_path = path.with_suffix(".kernels")
        self._config: Any = None
        self._kernels: Any = None
        if self._library.is_rtx:
            self._open_kernel_cache(self._kernels_path)
        self._buffers = self._allocate(names)
        self._recorded: dict[tuple[int, ...], _Recorded] = {}
        self._prompts: PromptTensors | None = None
        self.info = EngineInfo(
            backend=self._library.name,
            device=f"{gpu.name} (compute capability {gpu.compute_capability})",
            library=f"{self._library.name} {self._library.version}",
            model=str(path),
            model_sha256=bundle.onnx_sha256,
            precision=self._card.precision,
        )

    def _create_context(self, image: tuple[int, ...]) -> Any:
        """Create an execution context for one image shape."""
        context = self._engine.create_execution_context(*([self._config] if self._config else []))
        if context is None or not context.set_input_shape("image", image):
            raise Vl4adError(f"{self._library.name} cannot start the engine: {self._library.last_errors()}.")
        return context

    def _open_kernel_cache(self, path: Path) -> None:
        """TensorRT for RTX compiles kernels when they are first used: keep them from one start to the next."""
        api: Any = self._library.module  # has what its sister lacks, and what the type stubs do not know
        self._config = self._engine.create_runtime_config()
        # No stand-in kernels while the right ones compile: those would be recorded, and stay.
        self._config.dynamic_shapes_kernel_specialization_strategy = api.DynamicShapesKernelSpecializationStrategy.EAGER
        self._kernels = self._config.create_runtime_cache()
        if path.is_file() and not self._kernels.deserialize(path.read_bytes()):
            _logger.info("The kernels in %s are of another GPU or driver; they are compiled anew.", path)
        self._config.set_runtime_cache(self._kernels)

    def _save_kernel_cache(self) -> None:
        try:
            write_bytes(self._kernels_path, bytes(memoryview(self._kernels.serialize())))
        except Vl4adError as error:
            _logger.info("Every start compiles the kernels anew: %s", error)

    def _allocate(self, names: set[str]) -> dict[str, Buffer]:
        """Allocate every tensor once, for the largest image batch."""
        largest = self._create_context((self._card.image.max_batch, *self._card.image.max_size, 3))
        sizes = {name: math.prod(largest.get_tensor_shape(name)) for name in sorted(names)}
        return {name: self._cuda.allocate(size * (1 if name == "image" else 4)) for name, size in sizes.items()}

    def infer(self, images: NDArray[np.uint8], prompts: PromptTensors) -> NDArray[np.float32]:
        """Run the network and the score on a batch; see `Engine.infer`."""
        check_images(images)
        profile = self._card.image
        if not profile.accepts(*images.shape[:3]):
            raise Vl4adError(
                f"The engine takes batches of 1 to {profile.max_batch} images from {profile.min_size} to "
                f"{profile.max_size} (height, width), got {images.shape[:3]}; build one for more with "
                "'vl4ad export tensorrt --max-batch N'."
            )
        self._cuda.select()
        if prompts is not self._prompts:
            self._upload_prompts(prompts)
        buffer = self._buffers["image"].host[: images.size]
        np.copyto(buffer.reshape(images.shape), images)
        recorded = self._recorded.pop(images.shape, None) or self._record(images.shape)
        self._recorded[images.shape] = recorded
        recorded.graph.replay()
        self._cuda.synchronize()
        values = self._buffers[GRAPH_OUTPUT].host.view(np.float32)[: math.prod(recorded.output)]
        return np.array(values.reshape(recorded.output), dtype=np.float32)

    def _upload_prompts(self, prompts: PromptTensors) -> None:
        """Fill the prompt buffers; the stream is idle here, and what it is given next runs after the copies."""
        # Forgotten first: should an upload fail, the next frame uploads everything again.
        self._prompts = None
        arrays = prompts.graph_inputs()
        for name, buffer in self._buffers.items():
            if name in ("image", GRAPH_OUTPUT):
                continue
            if name not in arrays or arrays[name].nbytes != buffer.host.nbytes:
                shapes = {key: array.shape for key, array in arrays.items()}
                raise Vl4adError(f"The prompt inputs {shapes} do not fit the engine's input '{name}'.")
            buffer.host.view(arrays[name].dtype)[:] = arrays[name].reshape(-1)
            self._cuda.upload(buffer, buffer.host.nbytes)
        self._prompts = prompts

    def _record(self, shape: tuple[int, ...]) -> _Recorded:
        """Record the work of a frame of this shape as a CUDA graph, after one plain run that warms everything up."""
        while len(self._recorded) >= _MAX_RECORDED:
            self._recorded.pop(next(iter(self._recorded))).graph.close()
        context = self._create_context(shape)
        for name, buffer in self._buffers.items():
            if not context.set_tensor_address(name, buffer.device):
                raise Vl4adError(f"TensorRT refused the buffer of '{name}': {self._library.last_errors()}.")
        output = tuple(int(side) for side in context.get_tensor_shape(GRAPH_OUTPUT))
        image, score = self._buffers["image"], self._buffers[GRAPH_OUTPUT]

        def frame() -> None:
            self._cuda.upload(image, math.prod(shape))
            if not context.execute_async_v3(self._cuda.stream):
                raise Vl4adError(f"{self._library.name} could not run the engine: {self._library.last_errors()}.")
            self._cuda.download(score, math.prod(output) * 4)

        frame()
        self._cuda.synchronize()
        if self._kernels is not None:
            self._save_kernel_cache()
        _logger.info("Recording a CUDA graph for images %s.", shape)
        return _Recorded(context, self._cuda.capture(frame), output)

    def close(self) -> None:
        """Free the engine, its buffers and the stream."""
        while self._recorded:
            self._recorded.popitem()[1].graph.close()
        self._config = self._kernels = self._engine = self._runtime = None
        self._cuda.close()
