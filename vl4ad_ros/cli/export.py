"""`vl4ad export`: from a network to a model bundle (ONNX), and from a bundle to a TensorRT engine."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vl4ad_ros.io.errors import Vl4adError

if TYPE_CHECKING:
    from vl4ad_ros.runtime.bundle import ModelBundle
    from vl4ad_ros.runtime.engine_card import EngineCard

HELP = "export a network to an ONNX bundle, or a bundle to a TensorRT engine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    formats = parser.add_subparsers(dest="format", metavar="FORMAT", required=True)
    onnx = formats.add_parser("onnx", help="write a model bundle with an ONNX graph")
    onnx.add_argument("source", type=Path, help="folder of a network (network.json), or a float32 bundle to convert")
    onnx.add_argument("--out", type=Path, required=True, help="the bundle's folder, e.g. models/vl4ad-l")
    onnx.add_argument(
        "--prompts", type=Path, nargs="+", default=[], metavar="SET.safetensors", help="compiled sets; first is default"
    )
    onnx.add_argument("--size", type=_size, default="1024x2048", metavar="HxW", help="the network's input size")
    onnx.add_argument("--precision", choices=("float32", "float16"), default="float32", help="of the graph")
    onnx.add_argument(
        "--resize",
        choices=("classes", "masks", "score"),
        default="classes",
        help="what the graph resizes to the input's size; score: nothing, it ends at stride 4 (docs/tensorrt.md)",
    )
    onnx.add_argument("--concepts", type=int, default=256, help="concepts that a prompt set may have")
    onnx.add_argument("--columns", type=int, default=64, help="classes (in- and out-of-distribution) it may have")
    onnx.add_argument("--concepts-per-class", type=int, default=32, help="concepts that one class may have")
    onnx.add_argument("--licence", default="unknown: that of the imported weights", help="of the weights, for the card")
    onnx.add_argument("--with-network", action="store_true", help="keep the PyTorch network, for the torch backends")

    engine = formats.add_parser("tensorrt", help="build a bundle's TensorRT engine")
    engine.add_argument("bundle", help="model bundle: name or folder; the engine is written into it")
    engine.add_argument(
        "--library", default="auto", choices=("auto", "tensorrt", "tensorrt_rtx"), help="which TensorRT"
    )
    engine.add_argument("--max-batch", type=int, default=1, help="largest batch: the number of cameras")
    for option, what in (("min", "smallest"), ("best", "to tune for"), ("max", "largest")):
        engine.add_argument(
            f"--{option}-size", type=_size, metavar="HxW", help=f"image size, {what}; only for graphs of free size"
        )
    engine.add_argument("--workspace-mib", type=int, help="limit of TensorRT's scratch memory")
    engine.add_argument("--timing-cache", type=Path, help="tensorrt: file that keeps kernel timings between builds")
    engine.add_argument("--device", type=int, default=0, help="number of the GPU")
    engine.add_argument("--build-only", action="store_true", help="do not check the engine against ONNX Runtime")


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no size; expected HEIGHTxWIDTH, e.g. 512x1024") from None
    return height, width


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    return _onnx(args) if args.format == "onnx" else _tensorrt(args)


def _onnx(args: argparse.Namespace) -> int:
    from vl4ad_ros.network.precision import write_float16_bundle
    from vl4ad_ros.runtime.bundle import CARD, ModelBundle

    if (args.source / CARD).is_file():
        if args.precision != "float16":
            raise Vl4adError(f"{args.source} is a bundle already; convert it with --precision float16.")
        return _report(write_float16_bundle(ModelBundle.load(args.source), args.out, args.out.name))
    if args.precision == "float32":
        return _report(_export(args, args.out, args.with_network))
    with tempfile.TemporaryDirectory() as folder:
        return _report(write_float16_bundle(_export(args, Path(folder), False), args.out, args.out.name))


def _export(args: argparse.Namespace, out: Path, with_network: bool) -> ModelBundle:
    from vl4ad_ros.network.bundle_writer import export_network
    from vl4ad_ros.runtime.prompt_tensors import PromptLimits

    if min(args.concepts, args.columns, args.concepts_per_class) < 1:
        raise Vl4adError("--concepts, --columns and --concepts-per-class must be at least 1.")
    limits = PromptLimits(concepts=args.concepts, columns=args.columns, concepts_per_column=args.concepts_per_class)
    print("exporting; a large network takes some minutes ...", file=sys.stderr, flush=True)
    return export_network(
        args.source,
        out,
        args.prompts,
        args.size[0],
        args.size[1],
        limits=limits,
        licence=args.licence,
        with_network=with_network,
        resize=args.resize,
    )


def _report(bundle: ModelBundle) -> int:
    card = bundle.card
    print(f"wrote {bundle.path} ({bundle.onnx_path.stat().st_size / 1e6:.1f} MB, {card.precision})")
    for name in ("onnx_check", "float16_check"):
        if name in card.scores:
            check = card.scores[name]
            print(
                f"{name}: max abs error {check['max_abs_error']:.2g} of the published map, against {check['against']}"
            )
    return 0


def _tensorrt(args: argparse.Namespace) -> int:
    from vl4ad_ros.runtime.bundle import ModelBundle
    from vl4ad_ros.runtime.tensorrt_builder import build_engine, image_profile
    from vl4ad_ros.runtime.tensorrt_library import load_library

    if args.max_batch < 1 or (args.workspace_mib is not None and args.workspace_mib < 1):
        raise Vl4adError("--max-batch and --workspace-mib must be at least 1.")
    bundle = ModelBundle.load(args.bundle)
    library = load_library(args.library)
    image = image_profile(bundle.card.input, args.max_batch, args.min_size, args.best_size, args.max_size)
    with _Progress() as progress:
        card = build_engine(
            bundle,
            library,
            image,
            args.workspace_mib,
            args.timing_cache,
            args.device,
            progress=progress.show,
        )
    if not args.build_only:
        card = _verify(bundle, card, args.device)
    check = card.check if isinstance(card.check, str) else f"max abs error {card.check['max_abs_error']:.2g}"
    print(
        f"built {card.library} {card.version} engine of '{card.bundle}' in {card.build_seconds:.0f} s: "
        f"{card.engine_bytes / 1e6:.1f} MB, {card.precision}, batch 1..{card.image.max_batch}; {check}"
    )
    return 0


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


class _Progress:
    """One bar for each of TensorRT's outer phases."""

    def __enter__(self) -> _Progress:
        from tqdm import tqdm

        self._make = tqdm
        self._bars: dict[str, Any] = {}
        return self

    def show(self, phase: str, done: int, total: int) -> None:
        """Show a phase's steps."""
        if phase not in self._bars:
            self._bars[phase] = self._make(total=total, desc=phase, leave=False, file=sys.stderr)
        bar = self._bars[phase]
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
            del self._bars[phase]

    def __exit__(self, *exception: object) -> None:
        for bar in self._bars.values():
            bar.close()
