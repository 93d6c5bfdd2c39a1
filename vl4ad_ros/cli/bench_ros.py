"""`vl4ad bench ros`: what a frame costs in the live node, engine apart, measured over DDS stage by stage."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from vl4ad_ros.evaluation.domain import own_environment
from vl4ad_ros.io.errors import Vl4adError

DEADLINE_S = 60.0
WARM_UP = 20
NULL = "null"
STDERR = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--bundle", default="vl4ad-small", help="model bundle: name or folder")
    parser.add_argument("--backend", default=NULL, help="'null' answers at once; or a real backend, e.g. onnxruntime")
    parser.add_argument("--width", type=int, default=1920, help="columns of the camera's image")
    parser.add_argument("--height", type=int, default=1080, help="rows of the camera's image")
    parser.add_argument("--encoding", default="rgb8", choices=("rgb8", "bgr8"), help="of the camera's image")
    parser.add_argument("--frames", type=int, default=200, help="frames to measure, after a warm-up")
    parser.add_argument(
        "--rate", type=float, default=0.0, help="camera's frames per second; 0: the next one when the results are there"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    try:
        import rclpy  # noqa: F401
    except ImportError as error:
        raise Vl4adError(
            f"rclpy cannot be imported ({error}): source a ROS 2 installation or pip install 'vl4ad_ros[ros]'."
        ) from error
    if args.frames < 1 or args.width < 8 or args.height < 8 or args.rate < 0:
        raise Vl4adError("--frames must be at least 1, --width and --height at least 8, --rate not negative.")
    # A domain of this run's own, on this machine only: nobody else's cameras are measured or disturbed.
    os.environ.update(own_environment())
    result = measure(args)
    if args.json:
        print(json.dumps(result, indent=1))
        return 0
    print(f"{args.width}x{args.height} {args.encoding} -> 32FC1 + mono8, backend {args.backend}, {args.frames} frames")
    print(f"{'stage':16}{'median ms':>12}{'p95 ms':>12}")
    for stage, figures in result["stages_ms"].items():
        print(f"{stage:16}{figures['median']:12.2f}{figures['p95']:12.2f}")
    print(f"results per second: {result['results_per_second']:.1f}, frames without a result: {result['lost']}")
    return 0


@contextlib.contextmanager
def _detector(args: argparse.Namespace) -> Iterator[subprocess.Popen[bytes]]:
    module = "vl4ad_ros.nodes.bench" if args.backend == NULL else "vl4ad_ros.nodes.detector"
    values = {"bundle": args.bundle} | ({} if args.backend == NULL else {"backend": args.backend})
    parameters = [part for name, value in values.items() for part in ("-p", f"{name}:={json.dumps(value)}")]
    remap = ["-r", "image:=/camera/image", "-r", "__node:=detector"]
    process = subprocess.Popen(
        [sys.executable, "-m", module, "--ros-args", "--log-level", "warn", *remap, *parameters], stdout=STDERR
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run a detector in its own process, send it frames, and collect its debug topics.

    Returns:
        `outside_engine_ms_median` and the other figures, and what made them.

    Raises:
        Vl4adError: If the detector does not start or gives no results.
    """
    import numpy as np

    from vl4ad_ros.io.provenance import provenance
    from vl4ad_ros.nodes.bench import BenchClient

    with _detector(args) as process, BenchClient(args.width, args.height, args.encoding) as client:
        client.connect(process, DEADLINE_S)
        client.send(WARM_UP, 0.0)
        client.reset()
        began = time.monotonic()
        lost = client.send(args.frames, args.rate)
        seconds = time.monotonic() - began
        stages = client.milliseconds

    def figures(values: list[float]) -> dict[str, float]:
        return {"median": float(np.median(values)), "p95": float(np.percentile(values, 95))}

    summary = {stage: figures(values) for stage, values in stages.items() if values}
    if "outside_engine" not in summary:
        raise Vl4adError("The detector published no result; its log above says why.")
    return {
        "outside_engine_ms_median": summary["outside_engine"]["median"],
        "outside_engine_ms_p95": summary["outside_engine"]["p95"],
        "results_per_second": (args.frames - lost) / seconds,
        "lost": lost,
        "stages_ms": summary,
        "width": args.width,
        "height": args.height,
        "encoding": args.encoding,
        "frames": args.frames,
        "backend": args.backend,
        "bundle": args.bundle,
        **provenance(),
    }
