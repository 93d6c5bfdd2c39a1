"""`vl4ad bench`: speed and memory of the scoring stage, of the backends, of the GPU's forms, and of the live node."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vl4ad_ros.cli import bench_ros
from vl4ad_ros.io.errors import Vl4adError

HELP = "measure speed and memory: scoring, resolution, engine, gpu, ros"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from vl4ad_ros.cli.bench_gpu import FORMS
    from vl4ad_ros.runtime.engine import BACKENDS

    modes = parser.add_subparsers(dest="mode", metavar="MODE", required=True)
    scoring = modes.add_parser("scoring", help="Eq. 2 on the masks against upsampling them first")
    scoring.add_argument("--queries", type=int, default=250, help="N")
    scoring.add_argument("--classes", type=int, default=19, help="K, in-distribution classes")
    scoring.add_argument("--ood", type=int, default=21, help="Q, out-of-distribution concepts")
    scoring.add_argument("--size", type=_size, default="1024x2048", metavar="HxW", help="of the image")
    scoring.add_argument("--threads", type=int, default=2, help="CPU threads")
    scoring.add_argument("--calls", type=int, default=5, help="measured calls of each form, at least")
    scoring.add_argument("--seconds", type=float, default=10.0, help="how long each form is measured, at least")

    resolution = modes.add_parser(
        "resolution", help="AP of the score upsampled against masks upsampled, on frames with labels"
    )
    resolution.add_argument("--bundle", default="vl4ad-small", help="dense bundle that the masks are made from")
    resolution.add_argument(
        "--network", type=Path, help="folder of a mask network, whose masks are taken; the bundle gives the prompts"
    )
    resolution.add_argument("--prompt-set", help="prompt set of the bundle; default: its own default")
    resolution.add_argument("--data", type=Path, required=True, help="folder of a data set; evaluation only")
    resolution.add_argument("--layout", default="road_anomaly", help="its layout, as for 'vl4ad evaluate'")
    resolution.add_argument("--every", type=int, default=1, help="take every n-th frame")
    resolution.add_argument("--sharpness", type=float, default=1.0, help="factor on the mask logits")
    resolution.add_argument("--threads", type=int, default=0, help="CPU threads; 0: the library chooses")

    engine = modes.add_parser("engine", help="a bundle in one or more backends")
    engine.add_argument("--bundle", default="vl4ad-small", help="model bundle: name or folder")
    engine.add_argument(
        "--backend",
        nargs="+",
        default=["onnxruntime"],
        help=f"of {', '.join(BACKENDS)}; one that is not here is reported (default: onnxruntime)",
    )
    engine.add_argument("--size", type=_size, default="720x1280", metavar="HxW", help="of the camera's image")
    engine.add_argument("--batch", type=int, default=1, help="images of one engine call")
    engine.add_argument("--frames", type=int, default=50, help="measured calls")
    engine.add_argument("--threads", type=int, default=0, help="CPU threads; 0: the library chooses")

    gpu = modes.add_parser("gpu", help="the mask network in every form that a GPU runs")
    gpu.add_argument("--network", default="vl4ad-l", help="preset (vl4ad-l, vl4ad-tiny) or folder of a network")
    gpu.add_argument("--forms", nargs="+", default=[], metavar="FORM", help=f"default: all: {', '.join(FORMS)}")
    gpu.add_argument(
        "--size",
        type=_size,
        nargs="+",
        default=[(512, 1024), (1024, 2048)],
        metavar="HxW",
        help="of the network's input (default: 512x1024 1024x2048)",
    )
    gpu.add_argument("--batch", type=int, nargs="+", default=[1, 4], help="batch sizes (default: 1 4)")
    gpu.add_argument("--precision", choices=("float16", "float32"), default="float16", help="of all forms")
    gpu.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to see that the bench works")
    gpu.add_argument("--frames", type=int, default=50, help="measured calls of each")
    gpu.add_argument("--limit", type=float, default=900, help="seconds that one row may take")
    gpu.add_argument("--work", type=Path, default=Path("out/bench"), help="exported graphs and engines; kept")

    bench_ros.add_arguments(modes.add_parser("ros", help="what a frame costs in the live node, engine apart"))
    for mode in (scoring, resolution, engine, gpu):
        mode.add_argument("--out", type=Path, help="write figures, versions and hardware as JSON")


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no size; expected HEIGHTxWIDTH, e.g. 512x1024") from None
    return height, width


def run(args: argparse.Namespace) -> int:
    """Run a mode."""
    if args.mode == "ros":
        return bench_ros.run(args)
    if args.mode == "resolution":
        return _resolution(args)
    numbers = [args.calls] if args.mode == "scoring" else [args.frames]
    numbers += [args.queries, args.classes, args.threads] if args.mode == "scoring" else []
    numbers += args.batch if args.mode == "gpu" else []
    numbers += [args.batch] if args.mode == "engine" else []
    sizes = args.size if args.mode == "gpu" else [args.size]
    if min([*numbers, *(side for size in sizes for side in size)]) < 1:
        raise Vl4adError("Sizes, batches, classes, queries, threads, calls and frames must be at least 1.")
    return {"scoring": _scoring, "engine": _engine, "gpu": _gpu}[args.mode](args)


def _scoring(args: argparse.Namespace) -> int:
    from vl4ad_ros.cli.bench_scoring import ScoringCase, compare_scoring

    case = ScoringCase(
        queries=args.queries,
        columns=args.classes + args.ood,
        num_id=args.classes,
        height=args.size[0],
        width=args.size[1],
        threads=args.threads,
        calls=args.calls,
        seconds=args.seconds,
    )
    figures = compare_scoring(case)
    print(f"N={case.queries}, K+Q={case.columns}, {case.height}x{case.width}, {case.threads} CPU threads")
    print(f"{'':34}{'median ms':>11}{'ratio':>7}{'CPU ms':>11}{'ratio':>7}{'peak MiB':>10}{'ratio':>7}")
    for name, row in figures.items():
        print(
            f"{_described(name):34}{row['median_ms']:11.1f}{row['speedup']:7.1f}{row['cpu_ms']:11.1f}"
            f"{row['cpu_speedup']:7.1f}{row['peak_mib']:10.0f}{row['memory_ratio']:7.1f}"
        )
    return _save(args.out, {"scoring": figures})


def _described(form: str) -> str:
    """A form of the scoring stage, for people."""
    return {
        "classes": "class maps up (default)",
        "score": "one map up",
        "masks": "all masks up, strip by strip",
        "usual": "all masks up, then einsum",
    }[form]


def _resolution(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from vl4ad_ros.cli.bench_resolution import DenseMasks, Masks, NetworkMasks, compare_resolution
    from vl4ad_ros.runtime.bundle import ModelBundle

    if args.every < 1 or not args.sharpness > 0:
        raise Vl4adError("--every must be at least 1, --sharpness above 0.")
    bundle = ModelBundle.load(args.bundle)
    source: Masks
    if args.network is None:
        source = DenseMasks(bundle, args.prompt_set, args.threads)
    else:
        prompts = bundle.card.pack(bundle.load_prompt_set(args.prompt_set))
        source = NetworkMasks(args.network, prompts, args.threads)
    with tqdm(desc="frames", file=sys.stderr, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        figures = compare_resolution(source, args.data, args.layout, args.every, args.sharpness, show)
    print(
        f"{args.layout}, {figures['frames']} frames, masks from {args.network or bundle.card.name}, "
        f"sharpness {args.sharpness:g}"
    )
    for name, form in figures["forms"].items():
        change = f"{form['ap_change']:+.3f}"
        print(
            f"{name:22} AP {form['ap']:7.3f} ({change})   FPR95 {form['fpr95']:7.3f}   "
            f"largest change of a pixel {form['largest_change']:.3g}"
        )
    return _save(
        args.out, {"masks": str(args.network or bundle.card.name), "onnx_sha256": bundle.onnx_sha256, **figures}
    )


def _engine(args: argparse.Namespace) -> int:
    from vl4ad_ros.cli.bench_engines import bench_backends
    from vl4ad_ros.runtime.bundle import ModelBundle

    bundle = ModelBundle.load(args.bundle)
    rows = bench_backends(
        bundle,
        args.backend,
        height=args.size[0],
        width=args.size[1],
        batch=args.batch,
        frames=args.frames,
        threads=args.threads,
    )
    print(f"bundle {bundle.card.name}, camera {args.size[0]}x{args.size[1]}, batch {args.batch}, {args.frames} calls")
    print(f"{'backend':20}{'engine ms':>12}{'p95':>9}{'image to map ms':>18}{'p95':>9}")
    for row in rows:
        if "skipped" in row:
            print(f"{row['backend']:20}  not here: {row['skipped']}")
            continue
        engine, whole = row["engine_ms"], row["detect_ms"]
        print(
            f"{row['backend']:20}{engine['median_ms']:12.2f}{engine['p95_ms']:9.2f}"
            f"{whole['median_ms']:18.2f}{whole['p95_ms']:9.2f}"
        )
    return _save(args.out, {"bundle": bundle.card.name, "onnx_sha256": bundle.onnx_sha256, "rows": rows})


def _gpu(args: argparse.Namespace) -> int:
    from vl4ad_ros.cli.bench_gpu import FORMS, GpuCase, run_gpu_bench
    from vl4ad_ros.cli.bench_table import gpu_table

    unknown = [form for form in args.forms if form not in FORMS]
    if unknown:
        raise Vl4adError(f"Unknown forms {unknown}: expected some of {list(FORMS)}.")
    if any(side % 32 for size in args.size for side in size):
        raise Vl4adError("The network's input sides must be multiples of 32.")
    if args.device == "cuda":
        _need_gpu()
    case = GpuCase(
        network=args.network,
        sizes=tuple(args.size),
        batches=tuple(args.batch),
        precision=args.precision,
        device=args.device,
        frames=args.frames,
        limit_s=args.limit,
    )
    rows: list[dict[str, Any]] = []

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    for row in run_gpu_bench(case, tuple(args.forms) or FORMS, args.work, tell):
        rows.append(row)
        _save(args.out, {"network": args.network, "rows": rows})
    print(gpu_table(rows))
    return 0


def _need_gpu() -> None:
    """Say at once that there is no GPU, before minutes of exporting."""
    from vl4ad_ros.runtime.cuda import CudaDevice

    device = CudaDevice()
    print(f"{device.gpu()} {device.versions()}", file=sys.stderr)
    device.close()


def _save(path: Path | None, figures: dict[str, Any] | Sequence[Any]) -> int:
    if path is not None:
        from vl4ad_ros.io.provenance import provenance

        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"provenance": provenance(), "figures": figures}, indent=1) + "\n", encoding="utf-8")
    return 0
