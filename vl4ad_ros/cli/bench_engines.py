"""A bundle in a backend: the engine alone, and from the camera's image to the map at the camera's size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vl4ad_ros.cli.bench_timing import measure
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.engine import create_engine


def bench_backend(
    bundle: ModelBundle, backend: str, height: int, width: int, batch: int, frames: int, threads: int, device: int = 0
) -> dict[str, Any]:
    """Measure one backend on made-up camera images.

    Args:
        bundle: The bundle.
        backend: Name of the backend.
        height: Rows of the camera's image.
        width: Columns of the camera's image.
        batch: Images of one call, for the engine's figure.
        frames: Measured calls.
        threads: CPU threads of ONNX Runtime; 0 lets it choose.
        device: Number of the GPU.

    Returns:
        `engine`: what ran; `engine_ms`: one call on a preprocessed batch; `detect_ms`: one image, resize to resize.

    Raises:
        Vl4adError: If the backend is not available.
    """
    engine = create_engine(bundle, backend, threads, device)
    try:
        detector = Detector(bundle, engine)
        prompts = detector.prompts()
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        inputs = np.stack([detector.preprocess(image)] * batch)
        engine_ms = measure(lambda: engine.infer(inputs, prompts), frames)
        detect_ms = measure(lambda: detector.detect(image, prompts), frames)
        return {
            "backend": backend,
            "network_size": list(inputs.shape[1:3]),
            "batch": batch,
            "engine_ms": engine_ms.as_dict(),
            "detect_ms": detect_ms.as_dict(),
            "engine": engine.info.as_dict(),
        }
    finally:
        engine.close()


def bench_backends(bundle: ModelBundle, backends: Sequence[str], **sizes: int) -> list[dict[str, Any]]:
    """Measure several backends; one that is not available gets a row with the reason (`skipped`)."""
    rows: list[dict[str, Any]] = []
    for backend in backends:
        try:
            rows.append(bench_backend(bundle, backend, **sizes))
        except Vl4adError as error:
            rows.append({"backend": backend, "skipped": str(error)})
    return rows
