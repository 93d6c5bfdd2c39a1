"""`vl4ad bench ros`: what a frame costs in the live node, engine apart, measured over DDS stage by stage."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Literal

import numpy as np

from vl4ad_ros.cli.options import Count, Json, RateOrZero, print_error
from vl4ad_ros.evaluation.domain import own_environment
from vl4ad_ros.io.children import child_command
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.provenance import provenance

DEADLINE_S = 60.0
WARM_UP = 20
NULL = "null"
STDERR = 2


def ros(
    *,
    bundle: str = "vl4ad-small",
    backend: str = NULL,
    width: Count = 1920,
    height: Count = 1080,
    encoding: Literal["rgb8", "bgr8"] = "rgb8",
    frames: Count = 200,
    rate: RateOrZero = 0.0,
    json_output: Json = False,
) -> None:
    """Measure what a frame costs in the live node, engine apart.

    Args:
        bundle: Model bundle: name or folder.
        backend: 'null' answers at once; or a real backend, e.g. onnxruntime.
        width: Columns of the camera's image.
        height: Rows of the camera's image.
        encoding: Of the camera's image.
        frames: Frames to measure, after a warm-up.
        rate: Camera's frames per second; 0: the next one when the results are there.
        json_output: Print the result as JSON.
    """
    try:
        from vl4ad_ros.nodes.bench import BenchClient
    except ImportError as error:
        raise Vl4adError(
            f"rclpy cannot be imported ({error}): source a ROS 2 installation or pip install 'vl4ad_ros[ros]'."
        ) from error
    # A domain of this run's own, on this machine only: nobody else's cameras are measured or disturbed.
    os.environ.update(own_environment())
    print_error(f"in ROS domain {os.environ['ROS_DOMAIN_ID']}, on this machine only")
    with _detector(bundle, backend) as process, BenchClient(width, height, encoding) as client:
        client.connect(process, DEADLINE_S)
        client.send(WARM_UP, 0.0)
        client.reset()
        began = time.monotonic()
        lost = client.send(frames, rate)
        seconds = time.monotonic() - began
        stages = {stage: _figures(values) for stage, values in client.milliseconds.items() if values}
        number = client.hear_obstacles(WARM_UP)
        client.reset()
        client.send(frames, rate)
        located = {stage: _figures(client.milliseconds[stage]) for stage in ("obstacles", "age")}
    if "outside_engine" not in stages or not located["obstacles"]:
        raise Vl4adError("The detector published no result; its log above says why.")
    result = {
        "outside_engine_ms_median": stages["outside_engine"]["median"],
        "outside_engine_ms_p95": stages["outside_engine"]["p95"],
        "results_per_second": (frames - lost) / seconds,
        "lost": lost,
        "stages_ms": stages,
        "obstacles": {"number": number, "ms": located["obstacles"], "age_ms": located["age"]},
        "width": width,
        "height": height,
        "encoding": encoding,
        "frames": frames,
        "backend": backend,
        "bundle": bundle,
        **provenance(),
    }
    if json_output:
        print(json.dumps(result, indent=1))
        return
    print(f"{width}x{height} {encoding} -> 32FC1 + mono8, backend {backend}, {frames} frames")
    print(f"{'stage':16}{'median ms':>12}{'p95 ms':>12}")
    for stage, figures in stages.items():
        print(f"{stage:16}{figures['median']:12.2f}{figures['p95']:12.2f}")
    cost, age = located["obstacles"]["median"], located["age"]["median"]
    print(f"{number} obstacles followed and located: {cost:.2f} ms of a frame, {age:.2f} ms after its stamp")
    print(f"results per second: {result['results_per_second']:.1f}, frames without a result: {lost}")


def _figures(values: list[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "p95": float(np.percentile(values, 95))} if values else {}


@contextlib.contextmanager
def _detector(bundle: str, backend: str) -> Iterator[subprocess.Popen[bytes]]:
    module = "vl4ad_ros.nodes.bench" if backend == NULL else "vl4ad_ros.nodes.detector"
    values: dict[str, object] = {"bundle": bundle, "ground.height": 1.5} | (
        {} if backend == NULL else {"backend": backend}
    )
    parameters = [part for name, value in values.items() for part in ("-p", f"{name}:={json.dumps(value)}")]
    remap = ["-r", "image:=/camera/image", "-r", "__node:=detector"]
    process = subprocess.Popen(
        child_command(module, "--ros-args", "--log-level", "warn", *remap, *parameters), stdout=STDERR
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
