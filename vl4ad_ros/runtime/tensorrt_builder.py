"""Building a TensorRT engine from a bundle's graph, with `tensorrt` 10 and 11 and `tensorrt_rtx` alike."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import atomic_write, check_writable, sha256_file, write_bytes
from vl4ad_ros.runtime.bundle import InputSpec, ModelBundle
from vl4ad_ros.runtime.cuda import CudaDevice
from vl4ad_ros.runtime.engine_card import (
    NOT_CHECKED,
    EngineCard,
    Gpu,
    ImageProfile,
    card_path,
    engine_path,
    load_engine_card,
    stale_part,
)
from vl4ad_ros.runtime.tensorrt_library import TensorRtLibrary, load_library

Progress = Callable[[str, int, int], None]
"""Called with the phase's name, the steps done and the steps in all."""

Size = tuple[int, int]

_logger = logging.getLogger("vl4ad_ros.tensorrt")


def image_profile(
    spec: InputSpec,
    max_batch: int = 1,
    min_size: Size | None = None,
    best_size: Size | None = None,
    max_size: Size | None = None,
) -> ImageProfile:
    """Return the image shapes to build for: batches up to `max_batch`, the number of cameras that share the engine.

    Sizes are height and width, by default half of the card's, the card's (to tune for) and twice the card's; for a
    graph of fixed size the card's.
    """
    own = (spec.height, spec.width)
    if spec.resize == "stretch":
        if any(size not in (None, own) for size in (min_size, best_size, max_size)):
            raise Vl4adError(f"The graph's image size is fixed at {own[0]}x{own[1]}; leave the size options out.")
        return ImageProfile(max_batch=max_batch, min_size=own, best_size=own, max_size=own)
    step = spec.multiple_of
    half = (max(own[0] // 2 // step, 1) * step, max(own[1] // 2 // step, 1) * step)
    low, best, high = min_size or half, best_size or own, max_size or (2 * own[0], 2 * own[1])
    for size in (low, best, high):
        if any(side < step or side % step for side in size):
            raise Vl4adError(f"The graph takes image sides that are multiples of {step}, got {size[0]}x{size[1]}.")
    if not all(a <= b <= c for a, b, c in zip(low, best, high, strict=True)):
        raise Vl4adError(f"The image sizes are not in order: smallest {low}, best {best}, largest {high}.")
    return ImageProfile(max_batch=max_batch, min_size=low, best_size=best, max_size=high)


def build_engine(
    bundle: ModelBundle,
    library: TensorRtLibrary | str = "auto",
    image: ImageProfile | None = None,
    workspace_mib: int | None = None,
    timing_cache: Path | None = None,
    device_id: int = 0,
    cuda: CudaDevice | None = None,
    progress: Progress | None = None,
) -> EngineCard:
    """Build a bundle's engine and write it, with its card (`check` is `NOT_CHECKED`), to `engines/` in the bundle.

    The network is strongly typed: precision is what the graph says. An engine that is there stays until the new one is
    whole. `tensorrt` builds on the GPU that it will run on, and keeps kernel timings in `timing_cache`; `tensorrt_rtx`
    needs none.
    """
    library = load_library(library) if isinstance(library, str) else library
    image = image or image_profile(bundle.card.input)
    if timing_cache is not None and library.is_rtx:
        raise Vl4adError("tensorrt_rtx times no kernels while it builds; leave the timing cache out.")
    gpu = _gpu(library, device_id, cuda)
    path = engine_path(bundle, library.name)
    with atomic_write(path) as part:  # fails before the minutes that a build takes
        started = time.monotonic()
        plan = _build(bundle, library, image, workspace_mib, timing_cache, progress)
        seconds = time.monotonic() - started
        part.write_bytes(plan)
    card = EngineCard(
        bundle=bundle.card.name,
        onnx_sha256=bundle.onnx_sha256,
        engine_sha256=sha256_file(path),
        engine_bytes=len(plan),
        library="tensorrt_rtx" if library.is_rtx else "tensorrt",
        version=library.version,
        gpu=gpu,
        precision=bundle.card.precision,
        image=image,
        workspace_mib=workspace_mib,
        build_seconds=round(seconds, 1),
        check=NOT_CHECKED,
    )
    card.write(path)
    return card


def _gpu(library: TensorRtLibrary, device_id: int, cuda: CudaDevice | None) -> Gpu | None:
    """Return the GPU to build on; TensorRT for RTX does without one."""
    if cuda is not None:
        return cuda.gpu()
    if library.is_rtx:
        return None
    with closing(CudaDevice(device_id)) as device:
        return device.gpu()


def _build(
    bundle: ModelBundle,
    library: TensorRtLibrary,
    image: ImageProfile,
    workspace_mib: int | None,
    timing_cache: Path | None,
    progress: Progress | None,
) -> bytes:
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = library.module
    library.inconsistencies.clear()
    builder = trt.Builder(library.log)
    # TensorRT 11 knows strongly typed networks only and may have dropped the flag.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, library.log)
    if not parser.parse_from_file(str(bundle.onnx_path)):
        reasons = "; ".join(_parser_error(parser.get_error(i)) for i in range(parser.num_errors))
        raise Vl4adError(f"{library.name} {library.version} cannot take {bundle.onnx_path}: {reasons}.")
    config = builder.create_builder_config()
    if workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mib << 20)
    if progress is not None:
        config.progress_monitor = _monitor(trt, progress)
    profile: Any = builder.create_optimization_profile()
    sizes = ((1, image.min_size), (image.max_batch, image.best_size), (image.max_batch, image.max_size))
    profile.set_shape("image", *((batch, *size, 3) for batch, size in sizes))
    if config.add_optimization_profile(profile) < 0:
        raise Vl4adError(f"{library.name} refuses the image shapes {image}: {library.last_errors()}.")
    cache = None if timing_cache is None else _open_timing_cache(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise Vl4adError(f"{library.name} {library.version} could not build the engine: {library.last_errors()}.")
    if library.inconsistencies:
        raise Vl4adError(
            f"{bundle.onnx_path} cannot run at all sizes that its inputs allow: {library.inconsistencies[0]}"
        )
    if timing_cache is not None:
        _save_timing_cache(cache, timing_cache)
    return bytes(memoryview(plan))


def _parser_error(error: Any) -> str:
    where = f"{error.node_operator()} '{error.node_name()}': " if error.node_operator() else ""
    return where + " ".join(str(error.desc()).split())


def _open_timing_cache(config: Any, path: Path) -> Any:
    check_writable(path)  # before the minutes that a build takes
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    # A cache of another GPU or version is refused here; a fresh one takes its place.
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _save_timing_cache(cache: Any, path: Path) -> None:
    """Write the timings; should that fail by now, the engine, which took minutes, is worth more."""
    try:
        write_bytes(path, bytes(memoryview(cache.serialize())))
    except Vl4adError as error:
        _logger.warning("The timings are lost, the next build is no faster: %s", error)


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            progress(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress(phase_name, step + 1, self._steps[phase_name])
            return True

        def phase_finish(self, phase_name: str) -> None:
            progress(phase_name, self._steps[phase_name], self._steps[phase_name])

    return Monitor()


def ensure_engine(
    bundle: ModelBundle,
    library: TensorRtLibrary | str,
    max_batch: int = 1,
    device_id: int = 0,
    cuda: CudaDevice | None = None,
) -> None:
    """Build a bundle's engine if it has none that may be used here; the log says why and how far it is."""
    library = load_library(library) if isinstance(library, str) else library
    with closing(cuda or CudaDevice(device_id)) as device:
        reason, image = _reason(bundle, library, max_batch, device)
        if reason is not None:
            _logger.warning("Building the %s engine of '%s': %s.", library.name, bundle.card.name, reason)
            card = build_engine(bundle, library, image, cuda=device, progress=_log_progress)
            _logger.warning("Built the %s engine in %.0f s.", library.name, card.build_seconds)


def _reason(
    bundle: ModelBundle, library: TensorRtLibrary, max_batch: int, device: CudaDevice
) -> tuple[str | None, ImageProfile]:
    """Return why an engine has to be built, or None; and the image shapes to build for."""
    wanted = image_profile(bundle.card.input, max_batch)
    engine = engine_path(bundle, library.name)
    if not (engine.is_file() and card_path(engine).is_file()):
        return "there is none", wanted
    card = load_engine_card(bundle, library.name)
    wanted = card.image.model_copy(update={"max_batch": max(max_batch, card.image.max_batch)})
    if card.image.max_batch < max_batch:
        return f"it takes batches of {card.image.max_batch}, {max_batch} are needed", wanted
    return stale_part(card, bundle, library.version, device.gpu()), wanted


def _log_progress(phase: str, done: int, total: int) -> None:
    # Hundreds of steps; a line each tenth is enough to see that it is alive.
    if total and done % max(total // 10, 1) == 0:
        _logger.info("%s: %d of %d", phase, done, total)
