"""`vl4ad bench engine`: a bundle in one or more backends, the engine alone and from the camera's image to the map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter

from vl4ad_ros.cli.bench import measure, save
from vl4ad_ros.cli.options import Count, Threads, parse_size
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.engine import BACKENDS, create_engine

Backends = Annotated[
    tuple[str, ...], Parameter(help=f"Of {', '.join(BACKENDS)}; one that is not available is reported.")
]


def engine(
    *,
    bundle: str = "vl4ad-small",
    backend: Backends = ("onnxruntime",),
    size: str = "720x1280",
    batch: Count = 1,
    frames: Count = 50,
    threads: Threads = 0,
    out: Path | None = None,
) -> None:
    """Measure a bundle in one or more backends.

    Args:
        bundle: Model bundle: name or folder.
        backend: What runs it.
        size: Of the camera's image, HxW.
        batch: Images of one engine call.
        frames: Measured calls.
        threads: CPU threads; 0: the library chooses.
        out: Write figures, versions and hardware as JSON.
    """
    loaded = ModelBundle.load(bundle)
    height, width = parse_size(size)
    print(f"bundle {loaded.card.name}, camera {height}x{width}, batch {batch}, {frames} calls")
    print(f"{'backend':20}{'engine ms':>12}{'p95':>9}{'image to map ms':>18}{'p95':>9}")
    rows: list[dict[str, Any]] = []
    for name in backend:
        try:
            row = _measure_backend(loaded, name, (height, width), batch, frames, threads)
        except Vl4adError as error:
            rows.append({"backend": name, "skipped": str(error)})
            print(f"{name:20}  not here: {error}")
            continue
        rows.append(row)
        alone, whole = row["engine_ms"], row["detect_ms"]
        print(
            f"{name:20}{alone['median_ms']:12.2f}{alone['p95_ms']:9.2f}{whole['median_ms']:18.2f}{whole['p95_ms']:9.2f}"
        )
    save(out, {"bundle": loaded.card.name, "onnx_sha256": loaded.onnx_sha256, "rows": rows})


def _measure_backend(
    bundle: ModelBundle, backend: str, size: tuple[int, int], batch: int, frames: int, threads: int
) -> dict[str, Any]:
    """Measure one backend on random camera images: a preprocessed batch, and one image from resize to resize."""
    engine = create_engine(bundle, backend, threads)
    try:
        detector = Detector(bundle, engine)
        prompts = detector.prompts()
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        inputs = np.stack([detector.preprocess(image)] * batch)
        return {
            "backend": backend,
            "network_size": list(inputs.shape[1:3]),
            "batch": batch,
            "engine_ms": measure(lambda: engine.infer(inputs, prompts), frames).as_dict(),
            "detect_ms": measure(lambda: detector.detect(image, prompts), frames).as_dict(),
            "engine": engine.info.as_dict(),
        }
    finally:
        engine.close()
