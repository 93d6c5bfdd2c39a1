"""Evaluating a source: in this process, in several, or on a Ray cluster, with one merged result."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError

from vl4ad_ros.evaluation.component_metrics import track
from vl4ad_ros.evaluation.frames import FrameSource, fault_sentences
from vl4ad_ros.evaluation.groups import Groups
from vl4ad_ros.evaluation.measure import Measurements
from vl4ad_ros.evaluation.predictor import DetectorSpec, PredictorSpec, predictions
from vl4ad_ros.io.children import end_with_parent
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.provenance import provenance

Progress = Callable[[int], object]


@dataclass(frozen=True)
class EvaluationSettings:
    """What decides the figures besides the frames and the detector."""

    threshold: float  # at or above it a pixel counts as anomalous
    track: str = "anomaly"  # name of the component sizes
    stride: int = 1  # take every n-th frame
    limit: int | None = None  # take at most so many frames; None takes all
    region_overlap: bool = False  # whether to measure the per-region overlap, as for product inspection
    per_size: bool = False  # whether to measure AP, FPR95 and recall by the height of objects
    # Whose threshold it is: the `detector`'s own, `given`, or of the `best_f1` on these frames.
    threshold_from: str = "detector"
    groups: Groups | None = None  # frames with figures of their own

    def indices(self, count: int) -> list[int]:
        """Return the frames to take out of `count`."""
        if self.stride < 1 or (self.limit is not None and self.limit < 1):
            raise Vl4adError(f"Stride and limit must be at least 1, got {self.stride} and {self.limit}.")
        return list(range(0, count, self.stride))[: self.limit]

    def measurements(self) -> Measurements:
        """Return empty measurements."""
        return Measurements(track(self.track), self.threshold, self.region_overlap, self.per_size, groups=self.groups)


def evaluate_part(
    source: FrameSource,
    predictor: PredictorSpec,
    settings: EvaluationSettings,
    indices: Sequence[int],
    progress: Progress | None = None,
) -> Measurements:
    """Evaluate some frames of a source, one after the other."""
    found = settings.measurements()
    report = progress or (lambda frames: None)
    for frame, prediction in predictions(source, predictor, indices):
        found.add(frame, prediction)
        report(1)
    report(len(indices) - len(found.records))
    found.problems += source.found
    found.faults = {index: source.faults[index] for index in set(indices) & source.faults.keys()}
    return found


def evaluate(
    source: FrameSource,
    predictor: PredictorSpec,
    settings: EvaluationSettings,
    jobs: int = 1,
    ray_address: str | None = None,
    progress: Progress | None = None,
) -> Measurements:
    """Evaluate a source in `jobs` processes here, or on a Ray cluster (`local` starts one)."""
    indices = settings.indices(len(source))
    if jobs == 1 and ray_address is None:
        merged = evaluate_part(source, predictor, settings, indices, progress)
    else:
        merged = settings.measurements()
        part = partial(_evaluate_on_one_core, source, predictor, settings)
        for found in _spread(part, indices, jobs, ray_address):
            merged.merge(found)
            if progress is not None:
                progress(len(found.records) + sum(fault.left_out for fault in found.faults.values()))
    if not merged.records:
        causes = fault_sentences(merged.faults, len(merged.faults))
        raise Vl4adError(f"No frame can be evaluated. {' '.join(causes)}")
    return merged


def _evaluate_on_one_core(
    source: FrameSource,
    predictor: PredictorSpec,
    settings: EvaluationSettings,
    indices: Sequence[int],
) -> Measurements:
    """Evaluate a part in a process beside others: each takes one core, unless the detector's threads were named."""
    cv2.setNumThreads(1)
    if isinstance(predictor, DetectorSpec) and predictor.threads == 0:
        predictor = replace(predictor, threads=1)
    return evaluate_part(source, predictor, settings, indices)


def _spread(
    part: Callable[[Sequence[int]], Measurements], indices: Sequence[int], jobs: int, ray_address: str | None
) -> Iterator[Measurements]:
    """Yield the results of runs of the frames, worked on by several processes; a lost worker becomes one sentence."""
    with _workers(jobs, ray_address) as workers:
        shares = [share.tolist() for share in np.array_split(np.array(indices), 3 * workers) if len(share)]
        try:
            with Parallel(batch_size=1) as parallel:
                for start in range(0, len(shares), workers):
                    yield from parallel(delayed(part)(share) for share in shares[start : start + workers])
        except TerminatedWorkerError as error:
            raise Vl4adError(
                "A process of --jobs was ended from outside, perhaps for want of memory; give fewer --jobs."
            ) from error


@contextmanager
def _workers(jobs: int, ray_address: str | None) -> Iterator[int]:
    """Let joblib use processes of this machine, or a Ray cluster; yield the number of workers."""
    if ray_address is None:
        with parallel_config("loky", n_jobs=jobs, initializer=end_with_parent, initargs=(os.getpid(),)):
            yield jobs
        return
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise Vl4adError("Ray is not installed; get it with: pip install 'vl4ad_ros[ray]'.") from error
    try:
        ray.init(ray_address, log_to_driver=False, include_dashboard=False if ray_address == "local" else None)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise Vl4adError(f"The Ray cluster at '{ray_address}' cannot be reached ({error}).") from error
    try:
        register_ray()
        workers = int(ray.cluster_resources().get("CPU", 1))
        with parallel_config("ray", n_jobs=workers):
            yield workers
    finally:
        ray.shutdown()


def about_run(source: FrameSource, predictor: dict[str, Any], settings: EvaluationSettings) -> dict[str, Any]:
    """Return what `result.json` says of a run besides its figures."""
    return {
        **provenance(),
        "source": source.description,
        "detector": predictor,
        "settings": {name: value for name, value in vars(settings).items() if name != "groups"},
    }
