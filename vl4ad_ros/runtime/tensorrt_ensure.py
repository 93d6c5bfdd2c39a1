"""Building a TensorRT engine where it is missing or stale, for those who asked for that (`auto_build`)."""

from __future__ import annotations

import logging

from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.cuda import CudaDevice
from vl4ad_ros.runtime.engine_card import ImageProfile, card_path, engine_path, load_engine_card, stale_part
from vl4ad_ros.runtime.tensorrt_builder import build_engine, image_profile
from vl4ad_ros.runtime.tensorrt_library import TensorRtLibrary, load_library

_logger = logging.getLogger("vl4ad_ros.tensorrt")


def ensure_engine(
    bundle: ModelBundle,
    library: TensorRtLibrary | str,
    max_batch: int = 1,
    device_id: int = 0,
    cuda: CudaDevice | None = None,
) -> bool:
    """Build a bundle's engine if it has none that may be used here; the log says why and how far it is.

    Args:
        bundle: The bundle.
        library: A loaded library or its name.
        max_batch: Batch that the engine must accept.
        device_id: Number of the GPU.
        cuda: The GPU, if it is already open.

    Returns:
        Whether an engine was built.

    Raises:
        Vl4adError: If the library or a GPU is missing, or the build fails.
    """
    library = load_library(library) if isinstance(library, str) else library
    device = cuda or CudaDevice(device_id)
    try:
        reason, image = _reason(bundle, library, max_batch, device)
        if reason is None:
            return False
        _logger.warning("Building the %s engine of '%s': %s.", library.name, bundle.card.name, reason)
        card = build_engine(bundle, library, image, cuda=device, progress=_log_progress)
        _logger.warning("Built the %s engine in %.0f s.", library.name, card.build_seconds)
        return True
    finally:
        if cuda is None:
            device.close()


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
