"""`vl4ad bench engine`, and what all benches share: timing a call, and keeping the figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter

from vl4ad_ros.cli.options import Count, Threads, parse_size
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import write_json
from vl4ad_ros.io.provenance import provenance
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.engine import BACKENDS, create_engine

Backends = Annotated[
    tuple[str, ...], Parameter(help=f"Of {', '.join(BACKENDS)}; one that is not available is reported.")
]


@dataclass(frozen=True)
class Timing:
    """Durations of repeated calls, in milliseconds."""

    median_ms: float  # half of the calls were faster
    p95_ms: float  # 95 % were
    p99_ms: float  # 99 % were
    # Processor time of this process for one call, over all threads, on average: what a busy machine does not change.
    cpu_ms: float
    calls: int  # how many were measured


def measure(call: Callable[[], object], calls: int, warm_up: int = 3, seconds: float = 0.0) -> Timing:
    """Time a call that returns when its work is done.

    Args:
        call: What is measured.
        calls: How often at least, at least 1.
        warm_up: Calls before, which are not counted.
        seconds: How long at least, so that a short call is not measured in one short moment of a busy machine.
    """
    for _ in range(warm_up):
        call()
    durations: list[float] = []
    cpu = time.process_time()
    begun = time.perf_counter()
    while len(durations) < calls or time.perf_counter() - begun < seconds:
        started = time.perf_counter()
        call()
        durations.append(time.perf_counter() - started)
    cpu = (time.process_time() - cpu) * 1e3 / len(durations)
    median, p95, p99 = (round(float(v) * 1e3, 3) for v in np.percentile(durations, (50, 95, 99)))
    return Timing(median, p95, p99, round(cpu, 3), len(durations))


def save(path: Path | None, figures: dict[str, Any]) -> None:
    """Write figures, versions and hardware as JSON, where a file is named."""
    if path is not None:
        write_json(path, {"provenance": provenance(), "figures": figures})


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
            "engine_ms": asdict(measure(lambda: engine.infer(inputs, prompts), frames)),
            "detect_ms": asdict(measure(lambda: detector.detect(image, prompts), frames)),
            "engine": asdict(engine.info),
        }
    finally:
        engine.close()
