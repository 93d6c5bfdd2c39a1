"""`vl4ad export`: from a network to a model bundle (ONNX), and from a bundle to a TensorRT engine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from vl4ad_ros.cli.options import Count, Whole, parse_size, print_error, progress_bar
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import CARD, ModelBundle
from vl4ad_ros.runtime.engine_card import EngineCard
from vl4ad_ros.runtime.prompt_tensors import PromptLimits


def onnx(
    source: Path,
    /,
    *,
    out: Path,
    prompts: list[Path] | None = None,
    size: str = "1024x2048",
    precision: Literal["float32", "float16"] = "float32",
    resize: Literal["classes", "masks", "score"] = "classes",
    concepts: Count = 256,
    columns: Count = 64,
    concepts_per_class: Count = 32,
    licence: str = "unknown: that of the imported weights",
    with_network: bool = False,
) -> None:
    """Write a model bundle with an ONNX graph.

    Args:
        source: Folder of a network (network.json), or a float32 bundle to convert.
        out: The bundle's folder, e.g. models/vl4ad-l.
        prompts: Compiled sets (.safetensors); the first is the default.
        size: The network's input size, HxW.
        precision: Of the graph.
        resize: What the graph resizes to the input's size; score: nothing, it ends at stride 4 (docs/export.md).
        concepts: Concepts that a prompt set may have.
        columns: Classes (in- and out-of-distribution) it may have.
        concepts_per_class: Concepts that one class may have.
        licence: Of the weights, for the card.
        with_network: Keep the PyTorch network, for the torch backends.
    """
    from vl4ad_ros.network.bundle_writer import export_network
    from vl4ad_ros.network.precision import write_float16_bundle

    if (source / CARD).is_file():
        if precision != "float16":
            raise Vl4adError(f"{source} is a bundle already; convert it with --precision float16.")
        return _report(write_float16_bundle(ModelBundle.load(source), out, out.name))
    height, width = parse_size(size)
    limits = PromptLimits(concepts=concepts, columns=columns, concepts_per_column=concepts_per_class)

    def export(folder: Path, with_network: bool) -> ModelBundle:
        print_error("exporting; a large network takes some minutes ...")
        return export_network(
            source, folder, prompts or [], height, width, limits=limits, licence=licence, with_network=with_network,
            resize=resize,
        )  # fmt: skip

    if precision == "float32":
        return _report(export(out, with_network))
    with tempfile.TemporaryDirectory() as folder:
        return _report(write_float16_bundle(export(Path(folder), False), out, out.name))


def _report(bundle: ModelBundle) -> None:
    card = bundle.card
    print(f"wrote {bundle.path} ({bundle.onnx_path.stat().st_size / 1e6:.1f} MB, {card.precision})")
    for name in ("onnx_check", "float16_check"):
        if name in card.scores:
            check = card.scores[name]
            print(
                f"{name}: max abs error {check['max_abs_error']:.2g} of the published map, against {check['against']}"
            )


def tensorrt(
    bundle: str,
    /,
    *,
    library: Literal["auto", "tensorrt", "tensorrt_rtx"] = "auto",
    max_batch: Count = 1,
    min_size: str | None = None,
    best_size: str | None = None,
    max_size: str | None = None,
    workspace_mib: Count | None = None,
    timing_cache: Path | None = None,
    device: Whole = 0,
    build_only: bool = False,
) -> None:
    """Build a bundle's TensorRT engine.

    Args:
        bundle: Model bundle: name or folder; the engine is written into it.
        library: Which TensorRT.
        max_batch: Largest batch: the number of cameras.
        min_size: Image size HxW, smallest; only for graphs of free size.
        best_size: Image size HxW, to tune for; only for graphs of free size.
        max_size: Image size HxW, largest; only for graphs of free size.
        workspace_mib: Limit of TensorRT's scratch memory.
        timing_cache: tensorrt: file that keeps kernel timings between builds.
        device: Number of the GPU.
        build_only: Do not check the engine against ONNX Runtime.
    """
    from vl4ad_ros.runtime.tensorrt_builder import build_engine, image_profile
    from vl4ad_ros.runtime.tensorrt_library import load_library

    loaded = ModelBundle.load(bundle)
    chosen = load_library(library)
    sizes = [None if size is None else parse_size(size) for size in (min_size, best_size, max_size)]
    image = image_profile(loaded.card.input, max_batch, *sizes)
    card = build_engine(loaded, chosen, image, workspace_mib, timing_cache, device, progress=_phases())
    if not build_only:
        card = _verify(loaded, card, device)
    check = card.check if isinstance(card.check, str) else f"max abs error {card.check['max_abs_error']:.2g}"
    print(
        f"built {card.library} {card.version} engine of '{card.bundle}' in {card.build_seconds:.0f} s: "
        f"{card.engine_bytes / 1e6:.1f} MB, {card.precision}, batch 1..{card.image.max_batch}; {check}"
    )


def _verify(bundle: ModelBundle, card: EngineCard, device: int) -> EngineCard:
    """Check the engine where a GPU is; without one its card says that it was not."""
    from vl4ad_ros.runtime.cuda import CudaDevice
    from vl4ad_ros.runtime.graph_compare import verify_engine
    from vl4ad_ros.runtime.tensorrt_engine import TensorRtEngine

    try:
        cuda = CudaDevice(device)
    except Vl4adError:
        return card
    engine = TensorRtEngine(bundle, card.library, cuda=cuda)
    try:
        return verify_engine(bundle, engine, card.library)
    finally:
        engine.close()


def _phases() -> Callable[[str, int, int], None]:
    """Return what shows a bar for each of TensorRT's outer phases."""
    bars: dict[str, Callable[[int, int], None]] = {}

    def show(phase: str, done: int, total: int) -> None:
        bars.setdefault(phase, progress_bar(phase, "step"))(done, total)

    return show
