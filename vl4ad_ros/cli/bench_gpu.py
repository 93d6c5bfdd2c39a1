"""`vl4ad bench gpu`: the mask network on a GPU, from host image to host map, in every form that may run there.

Each form runs in a process of its own, so that its memory is its own and a crash costs one row of the table. Random
weights will do.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from vl4ad_ros.cli.bench import measure, save
from vl4ad_ros.cli.options import Count, parse_size, print_error
from vl4ad_ros.io.children import child_command
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import PROMPTS, BundleCard, InputSpec, ModelBundle, write_card
from vl4ad_ros.runtime.cuda import CudaDevice
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.runtime.prompt_tensors import PromptLimits
from vl4ad_ros.runtime.scores import SCORINGS

if TYPE_CHECKING:
    from torch import nn

    from vl4ad_ros.runtime.engine import Engine

Form = Literal["torch-eager", "torch-compile", "torch-cuda-graph", "onnxruntime", "tensorrt", "tensorrt_rtx"]
FORMS: tuple[Form, ...] = get_args(Form)
BASELINE = "torch-eager"


@dataclass(frozen=True)
class GpuCase:
    """What is measured: `network` is a preset or a folder, `device` `cuda` or `cpu`, `limit_s` seconds a row."""

    network: str
    precision: str
    device: str
    frames: int
    limit_s: float


def gpu(
    *,
    network: str = "vl4ad-l",
    forms: tuple[Form, ...] = FORMS,
    size: tuple[str, ...] = ("512x1024", "1024x2048"),
    batch: tuple[Count, ...] = (1, 4),
    precision: Literal["float16", "float32"] = "float16",
    device: Literal["cuda", "cpu"] = "cuda",
    frames: Count = 50,
    limit: float = 900.0,
    work: Path = Path("out/bench"),
    out: Path | None = None,
) -> None:
    """Measure the mask network in every form that a GPU runs.

    Args:
        network: Preset (vl4ad-l, vl4ad-tiny) or folder of a network.
        forms: Which of the forms.
        size: Sizes of the network's input, HxW.
        batch: Batch sizes.
        precision: Of all forms.
        device: cpu: to see that the bench works.
        frames: Measured calls of each.
        limit: Seconds that one row may take.
        work: Exported graphs and engines; kept.
        out: Write figures, versions and hardware as JSON.
    """
    sizes = [parse_size(text) for text in size]
    if any(side % 32 for sides in sizes for side in sides):
        raise Vl4adError("The network's input sides must be multiples of 32.")
    if device == "cuda":  # Without one, that is found here, before minutes of exporting.
        cuda = CudaDevice()
        print_error(f"{cuda.gpu()} {cuda.versions()}")
        cuda.close()
    case = GpuCase(network, precision, device, frames, limit)
    rows: list[dict[str, Any]] = []
    for row in run_gpu_bench(case, sizes, batch, forms, work):
        rows.append(row)
        save(out, {"network": network, "rows": rows})
    print(gpu_table(rows))


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
    """Open one form; return it and what its preparation cost."""
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


def measure_form(form: str, case: GpuCase, bundle_path: str, batch: int) -> dict[str, Any]:
    """Measure one form in this process; return the row's figures, or why it is not available."""
    bundle = ModelBundle.load(bundle_path, verify=False)
    before = _gpu_bytes(case)
    started = time.monotonic()
    try:
        engine, row = open_form(form, case, bundle, batch)
    except Vl4adError as error:
        return {"skipped": str(error)}
    prompts = bundle.card.pack(bundle.load_prompt_set())
    size = (bundle.card.input.height, bundle.card.input.width)
    images = np.random.default_rng(1).integers(0, 256, (batch, *size, 3), dtype=np.uint8)
    first = engine.infer(images, prompts)
    row["first_frame_s"] = round(time.monotonic() - started, 1)
    timing = measure(lambda: engine.infer(images, prompts), case.frames)
    row |= {
        "latency": asdict(timing),
        "frames_per_s": round(1e3 * batch / timing.median_ms, 1),
        "gpu_mib": None if before is None else round((_gpu_bytes(case) or 0) / 2**20 - before / 2**20),
        "finite": bool(np.isfinite(first).all()),
        "mean_score": round(float(first.mean()), 4),
        "engine": asdict(engine.info),
    }
    engine.close()
    return row


def _gpu_bytes(case: GpuCase) -> int | None:
    if case.device != "cuda":
        return None
    device = CudaDevice()
    try:
        return device.used_bytes()
    finally:
        device.close()


def run_gpu_bench(
    case: GpuCase, sizes: Sequence[tuple[int, int]], batches: Sequence[int], forms: Sequence[str], folder: Path
) -> Iterator[dict[str, Any]]:
    """Measure all forms, sizes (height, width) and batches; yield a row for each as soon as it is there.

    Exported bundles go into `folder` and are used again.
    """
    for size in sizes:
        print_error(f"exporting {case.network} at {size[0]}x{size[1]}, {case.precision} ...")
        bundle = prepare_bundle(case, size, folder)
        for batch in batches:
            for form in forms:
                print_error(f"{form}, {size[0]}x{size[1]}, batch {batch} ...")
                row = _run_form(form, case, str(bundle.path), batch)
                yield {"form": form, "size": list(size), "batch": batch, "precision": case.precision, **row}


def _run_form(form: str, case: GpuCase, bundle: str, batch: int) -> dict[str, Any]:
    """Measure one form in a process of its own; one that fails must not end the table, its reason stands in its row."""
    arguments = json.dumps([form, asdict(case), bundle, batch])
    command = child_command("vl4ad_ros.cli.bench_gpu", arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=case.limit_s)
    except subprocess.TimeoutExpired:
        return {"failed": f"took longer than {case.limit_s:.0f} s"}
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"])[-1]
        return {"failed": reason[:300]}
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def gpu_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as Markdown; speed-up is against eager PyTorch at the same size and batch of the same run."""
    lines = [
        "| form | size | batch | median ms | p95 ms | p99 ms | frames/s | x eager | GPU MiB | ready after s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    base = {_key(row): row["latency"]["median_ms"] for row in rows if row["form"] == BASELINE and "latency" in row}
    notes: dict[str, None] = {}
    for row in rows:
        place = f"| {row['form']} | {row['size'][0]}x{row['size'][1]} | {row['batch']} |"
        if "latency" not in row:
            lines.append(f"{place} - | - | - | - | - | - | - |")
            kind = "skipped" if "skipped" in row else "failed"
            notes[f"\n{row['form']} {kind}: {row[kind]}"] = None
            continue
        latency = row["latency"]
        ratio = f"{base[_key(row)] / latency['median_ms']:.2f}" if _key(row) in base else "-"
        memory = "-" if row["gpu_mib"] is None else str(row["gpu_mib"])
        lines.append(
            f"{place} {latency['median_ms']:.2f} | {latency['p95_ms']:.2f} | {latency['p99_ms']:.2f} | "
            f"{row['frames_per_s']:.1f} | {ratio} | {memory} | {row['first_frame_s']:.1f} |"
        )
    return "\n".join([*lines, *notes])


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return (*row["size"], row["batch"], row["precision"])


if __name__ == "__main__":  # The process of one form.
    name, fields, folder, number = json.loads(sys.argv[1])
    print(json.dumps(measure_form(name, GpuCase(**fields), folder, number)))
