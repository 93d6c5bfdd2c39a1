"""Evaluating a source: in parts, over processes or a Ray cluster, resumable, with one merged result."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2

from vl4ad_ros.errors import Vl4adError
from vl4ad_ros.evaluation.component_metrics import track
from vl4ad_ros.evaluation.frames import FrameSource
from vl4ad_ros.evaluation.pictures import timeline_indices
from vl4ad_ros.evaluation.predictor import DetectorSpec, RecordedSpec
from vl4ad_ros.evaluation.tally import Tally
from vl4ad_ros.hashing import sha256_text

# Frames of a part: what an interruption costs at most.
PART = 250
Progress = Callable[[int], object]


@dataclass(frozen=True)
class EvaluationSettings:
    """What decides the figures besides the frames and the detector.

    Attributes:
        threshold: At or above it a pixel counts as anomalous.
        track: Name of the component sizes.
        stride: Take every n-th frame.
        limit: Take at most so many frames; None takes all.
    """

    threshold: float
    track: str = "anomaly"
    stride: int = 1
    limit: int | None = None

    def indices(self, count: int) -> list[int]:
        """Return the frames to take out of `count`."""
        if self.stride < 1 or (self.limit is not None and self.limit < 1):
            raise Vl4adError(f"Stride and limit must be at least 1, got {self.stride} and {self.limit}.")
        return list(range(0, count, self.stride))[: self.limit]


@dataclass(frozen=True)
class Part:
    """A share of the work that any process can do.

    Attributes:
        source: Where the frames come from.
        predictor: How to open what predicts.
        settings: What decides the figures.
        indices: The frames of this part.
        thumbnails: Those of them that get a thumbnail.
    """

    source: FrameSource
    predictor: DetectorSpec | RecordedSpec
    settings: EvaluationSettings
    indices: Sequence[int]
    thumbnails: frozenset[int]


def evaluate_part(part: Part, progress: Progress | None = None) -> Tally:
    """Evaluate the frames of a part, one after the other.

    Args:
        part: The part.
        progress: Called with 1 after each frame.
    """
    tally = Tally()
    sizes = track(part.settings.track)
    predictor = part.predictor.open()
    try:
        for frame in part.source.frames(part.indices):
            uncertainty, latency = predictor.predict(frame)
            timed = replace(frame, latency_ms=latency)
            tally.add(timed, uncertainty, part.settings.threshold, sizes, frame.index in part.thumbnails)
            if progress is not None:
                progress(1)
    finally:
        predictor.close()
    tally.problems += part.source.problems
    return tally


def split(
    source: FrameSource, predictor: DetectorSpec | RecordedSpec, settings: EvaluationSettings, workers: int
) -> list[Part]:
    """Split the work into parts for a number of workers."""
    indices = settings.indices(len(source))
    count = max(workers, -(-len(indices) // PART))
    chosen = timeline_indices(len(indices))
    thumbnails = frozenset(indices[place] for place in chosen)
    bounds = [round(number * len(indices) / count) for number in range(count + 1)]
    shares = [indices[low:high] for low, high in pairwise(bounds) if high > low]
    return [Part(source, predictor, settings, share, thumbnails) for share in shares]


def fingerprint(part: Part) -> str:
    """Return a short text that differs whenever the part's result may."""
    content = {
        "source": part.source.description,
        "predictor": part.predictor.identity(),
        "settings": dataclasses.asdict(part.settings),
        "indices": list(part.indices),
    }
    return sha256_text(json.dumps(content, sort_keys=True))[:16]


def evaluate(
    parts: Sequence[Part],
    folder: Path,
    jobs: int = 1,
    ray_address: str | None = None,
    progress: Progress | None = None,
) -> Tally:
    """Evaluate all parts and merge them; parts that an interrupted run has finished are not done again.

    Args:
        parts: The parts of `split`.
        folder: Where finished parts are kept until all are done.
        jobs: Processes on this machine.
        ray_address: Address of a Ray cluster (`local` starts one here); None uses none.
        progress: Called with the number of frames done, as they are done.

    Raises:
        Vl4adError: What a part raised; the others that finished are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {folder / f"part-{fingerprint(part)}.npz": part for part in parts}
    waiting = {}
    for path, part in files.items():
        if path.is_file():
            _report(progress, len(part.indices))
        else:
            waiting[path] = part
    if ray_address is not None:
        from vl4ad_ros.evaluation.ray_cluster import on_cluster

        done: Iterator[tuple[Path, Tally]] = on_cluster(waiting, ray_address)
    elif jobs > 1 and len(waiting) > 1:
        done = _in_processes(waiting, jobs)
    else:
        done = ((path, evaluate_part(part, progress)) for path, part in waiting.items())
    for path, tally in done:
        tally.save(path)
        if ray_address is not None or jobs > 1:
            _report(progress, len(tally.records))
    merged = Tally()
    for path in files:
        merged.merge(Tally.load(path))
    for path in files:
        path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
    return merged


def _report(progress: Progress | None, frames: int) -> None:
    if progress is not None:
        progress(frames)


def _in_processes(waiting: dict[Path, Part], jobs: int) -> Iterator[tuple[Path, Tally]]:
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        futures = {pool.submit(evaluate_on_one_thread, part): path for path, part in waiting.items()}
        open_futures = set(futures)
        while open_futures:
            done, open_futures = wait(open_futures, return_when=FIRST_COMPLETED)
            for future in done:
                yield futures[future], future.result()


def evaluate_on_one_thread(part: Part) -> Tally:
    """Evaluate a part in a process beside others: each takes one core, unless the detector's threads were named."""
    cv2.setNumThreads(1)
    predictor = part.predictor
    if isinstance(predictor, DetectorSpec) and predictor.threads == 0:
        part = replace(part, predictor=replace(predictor, threads=1))
    return evaluate_part(part)


def about_run(source: FrameSource, predictor: dict[str, Any], settings: EvaluationSettings) -> dict[str, Any]:
    """Return what `result.json` says of a run besides its figures."""
    from vl4ad_ros.provenance import provenance

    return {
        **provenance(),
        "source": source.description,
        "detector": predictor,
        "settings": dataclasses.asdict(settings),
    }
