"""The mask network on a GPU, from host image to host map, in every form that may run there; random weights will do.

Each form runs in a process of its own, so that its memory is its own and a crash costs one row of the table.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any

import numpy as np

from vl4ad_ros.cli.bench_timing import measure
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import PROMPTS, BundleCard, InputSpec, ModelBundle, write_card
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.runtime.prompt_tensors import PromptLimits
from vl4ad_ros.runtime.scores import SCORINGS

if TYPE_CHECKING:
    from torch import nn

    from vl4ad_ros.runtime.engine import Engine

FORMS: tuple[str, ...] = (
    "torch-eager",
    "torch-compile",
    "torch-cuda-graph",
    "onnxruntime",
    "tensorrt",
    "tensorrt_rtx",
)
BASELINE = "torch-eager"


@dataclass(frozen=True)
class GpuCase:
    """What is measured.

    Attributes:
        network: Preset of `vl4ad_ros.network.config`, or a network's folder.
        sizes: (height, width) of the network's input.
        batches: Batch sizes.
        precision: `float32` or `float16`.
        device: `cuda` or `cpu` (the latter to see that the bench works).
        frames: Measured calls of each.
        limit_s: Seconds that one form may take for one size.
    """

    network: str = "vl4ad-l"
    sizes: tuple[tuple[int, int], ...] = ((512, 1024), (1024, 2048))
    batches: tuple[int, ...] = (1, 4)
    precision: str = "float16"
    device: str = "cuda"
    frames: int = 50
    limit_s: float = 900.0


def prepare_bundle(case: GpuCase, size: tuple[int, int], folder: Path) -> ModelBundle:
    """Write the network at one size as a bundle, with a random prompt set of 19 classes and 21 OOD concepts.

    Not held against torch here, as `vl4ad export onnx` does: the bench reports the difference instead. A bundle that
    is there from an earlier call with the same settings is used again.
    """
    import onnx

    from vl4ad_ros.network.onnx_export import export_onnx, save_onnx
    from vl4ad_ros.network.precision import to_float16

    path = folder / f"{Path(case.network).name}-{size[0]}x{size[1]}-{case.precision}"
    if (path / "card.json").is_file():
        return ModelBundle.load(path)
    (path / PROMPTS).mkdir(parents=True, exist_ok=True)
    network = build_network(case.network)
    config = network.config
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((80, config.head.text_dim)).astype(np.float32)
    names = tuple(f"class{i}" for i in range(40))
    prompts = CompiledPromptSet(
        name="random",
        description="random embeddings, for speed only",
        columns=names,
        members=tuple((name,) for name in names),
        concepts=tuple(f"concept{i}" for i in range(80)),
        concept_column=np.arange(80, dtype=np.int32) % 40,
        embeddings=rows / np.linalg.norm(rows, axis=1, keepdims=True),
        num_id=19,
        temperature=None,
        encoder_id=config.text_encoder,
        source_sha256="",
    )
    card = BundleCard(
        name=path.name,
        input=InputSpec(height=size[0], width=size[1], mean=config.mean, std=config.std),
        text_encoder=config.text_encoder,
        embedding_dim=config.head.text_dim,
        num_queries=config.head.num_queries,
        stride=network.stride,
        temperature=network.temperature,
        void=True,
        scorings=list(SCORINGS),
        prompt_limits=PromptLimits(),
        default_prompt_set=prompts.name,
        precision=case.precision,
        licence="none: random weights" if config.origin == "random initialisation" else "that of the weights",
    )
    graph = path / card.onnx
    export_onnx(network, graph, card.input, card.embedding_dim, card.prompt_limits)
    if case.precision == "float16":
        save_onnx(to_float16(onnx.load(str(graph))), graph)
    prompts.save(path / PROMPTS / "random.safetensors")
    return ModelBundle(path, write_card(path, card))


def build_network(name: str) -> Any:
    """Return a preset with random weights (the same each time), or the network of a folder."""
    import torch

    from vl4ad_ros.network.checkpoint import CONFIG, load_config, load_network
    from vl4ad_ros.network.model import VL4ADNetwork

    if (Path(name) / CONFIG).is_file():
        return load_network(name)
    torch.manual_seed(0)
    return VL4ADNetwork(load_config(name)).eval()


def open_form(form: str, case: GpuCase, bundle: ModelBundle, batch: int) -> tuple[Engine, dict[str, Any]]:
    """Open one form; return it and what its preparation cost.

    Raises:
        Vl4adError: If it is not available here.
    """
    started = time.monotonic()
    cuda = case.device == "cuda"
    if form.startswith("tensorrt"):
        from vl4ad_ros.runtime.tensorrt_builder import build_engine, image_profile
        from vl4ad_ros.runtime.tensorrt_engine import TensorRtEngine

        if not cuda:
            raise Vl4adError(f"{form} runs on NVIDIA GPUs only.")
        card = build_engine(bundle, form, image_profile(bundle.card.input, batch))
        return TensorRtEngine(bundle, form), {"build_s": card.build_seconds, "engine_mb": card.engine_bytes / 1e6}
    if form == "onnxruntime":
        from vl4ad_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(bundle, case.device), {"build_s": round(time.monotonic() - started, 1)}
    return _open_torch(form, case, bundle), {}


def _open_torch(form: str, case: GpuCase, bundle: ModelBundle) -> Engine:
    import torch

    from vl4ad_ros.cli.bench_torch_forms import CudaGraphEngine, MixedPrecision
    from vl4ad_ros.network.torch_engine import TorchEngine

    if case.device == "cuda" and not torch.cuda.is_available():
        raise Vl4adError(f"PyTorch {torch.__version__} finds no NVIDIA GPU here.")
    network: nn.Module = build_network(case.network).to(case.device)
    if case.precision == "float16":
        network = MixedPrecision(network, case.device)
    if form == "torch-cuda-graph":
        if case.device != "cuda":
            raise Vl4adError("A CUDA graph needs a GPU.")
        return CudaGraphEngine(bundle, network)
    device = "cuda:0" if case.device == "cuda" else "cpu"
    return TorchEngine(bundle, device, compiled=form == "torch-compile", network=network)


def _measure_form(queue: Any, form: str, case: GpuCase, bundle_path: str, batch: int) -> None:
    """Entry of a form's process: put one row into the queue."""
    row: dict[str, Any] = {}
    try:
        bundle = ModelBundle.load(bundle_path, verify=False)
        before = _gpu_bytes(case)
        started = time.monotonic()
        engine, row = open_form(form, case, bundle, batch)

        prompts = bundle.card.pack(bundle.load_prompt_set())
        size = (bundle.card.input.height, bundle.card.input.width)
        images = np.random.default_rng(1).integers(0, 256, (batch, *size, 3), dtype=np.uint8)
        first = engine.infer(images, prompts)
        row["first_frame_s"] = round(time.monotonic() - started, 1)
        timing = measure(lambda: engine.infer(images, prompts), case.frames)
        row |= {
            "latency": timing.as_dict(),
            "frames_per_s": round(1e3 * batch / timing.median_ms, 1),
            "gpu_mib": None if before is None else round((_gpu_bytes(case) or 0) / 2**20 - before / 2**20),
            "finite": bool(np.isfinite(first).all()),
            "mean_score": round(float(first.mean()), 4),
            "engine": engine.info.as_dict(),
        }
        engine.close()
    except Vl4adError as error:
        row["skipped"] = str(error)
    except Exception as error:  # one form must not end the table; the reason stands in its row
        row["failed"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    queue.put(row)


def _gpu_bytes(case: GpuCase) -> int | None:
    if case.device != "cuda":
        return None
    from vl4ad_ros.runtime.cuda import CudaDevice

    device = CudaDevice()
    try:
        return device.used_bytes()
    finally:
        device.close()


def run_gpu_bench(
    case: GpuCase, forms: tuple[str, ...], folder: Path, tell: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Measure all forms, sizes and batches; yield a row for each as soon as it is there.

    Args:
        case: What is measured.
        forms: Of `FORMS`.
        folder: Where exported bundles go; kept between calls.
        tell: Called with a line before each step.
    """
    context = multiprocessing.get_context("spawn")
    for size in case.sizes:
        tell(f"exporting {case.network} at {size[0]}x{size[1]}, {case.precision} ...")
        bundle = prepare_bundle(case, size, folder)
        for batch in case.batches:
            for form in forms:
                tell(f"{form}, {size[0]}x{size[1]}, batch {batch} ...")
                queue = context.Queue()
                process = context.Process(target=_measure_form, args=(queue, form, case, str(bundle.path), batch))
                process.start()
                yield {
                    "form": form,
                    "size": list(size),
                    "batch": batch,
                    "precision": case.precision,
                    **_row_of(process, queue, case.limit_s),
                }


def _row_of(process: Any, queue: Any, limit_s: float) -> dict[str, Any]:
    deadline = time.monotonic() + limit_s
    row: dict[str, Any] | None = None
    while row is None and time.monotonic() < deadline:
        try:
            row = queue.get(timeout=1)
        except Empty:
            if not process.is_alive() and queue.empty():
                row = {"failed": f"the process ended with {process.exitcode}"}
    if row is None:
        process.kill()
        row = {"failed": f"took longer than {limit_s:.0f} s"}
    process.join()
    return row
