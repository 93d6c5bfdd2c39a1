"""Evaluating a source: in parts, over processes or a Ray cluster, resumable, with one merged result."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2

from vl4ad_ros.evaluation.component_metrics import track
from vl4ad_ros.evaluation.frames import FrameSource, fault_sentences
from vl4ad_ros.evaluation.pictures import timeline_indices
from vl4ad_ros.evaluation.predictor import DetectorSpec, RecordedSpec
from vl4ad_ros.evaluation.tally import Tally
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.hashing import sha256_text

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
    if progress is not None:
        progress(len(part.indices) - len(tally.records))
    tally.problems += part.source.found
    mine = set(part.indices)
    tally.faults = {index: fault for index, fault in part.source.faults.items() if index in mine}
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
    """Return a short text that differs whenever a frame's result may; which frames the part has does not matter."""
    content = {
        "source": part.source.description,
        "state": part.source.state,
        "predictor": part.predictor.identity(),
        "settings": dataclasses.asdict(part.settings),
    }
    return sha256_text(json.dumps(content, sort_keys=True))[:16]


def evaluate(
    parts: Sequence[Part],
    folder: Path,
    jobs: int = 1,
    ray_address: str | None = None,
    progress: Progress | None = None,
) -> Tally:
    """Evaluate all parts and merge them; frames that an interrupted run has finished are not done again.

    However many parts that run had: what it finished is recognised by its frames.

    Args:
        parts: The parts of `split`.
        folder: Where finished parts are kept until all are done; then all parts in it go, also those of other runs.
        jobs: Processes on this machine.
        ray_address: Address of a Ray cluster (`local` starts one here); None uses none.
        progress: Called with the number of frames done, as they are done.

    Raises:
        Vl4adError: What a part raised; the others that finished are kept. Or if no frame could be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = fingerprint(parts[0])
    finished = _finished(folder, run, sorted(index for part in parts for index in part.indices))
    _report(progress, len(finished))
    waiting = {
        folder / f"part-{run}-{part.indices[0]}-{part.indices[-1]}.npz": part for part in _unfinished(parts, finished)
    }
    files = sorted({*finished.values(), *waiting})
    elsewhere = True
    if ray_address is not None:
        from vl4ad_ros.evaluation.ray_cluster import on_cluster

        done: Iterator[tuple[Path, Tally]] = on_cluster(waiting, ray_address)
    elif jobs > 1 and len(waiting) > 1:
        done = _in_processes(waiting, jobs)
    else:
        elsewhere = False
        done = ((path, evaluate_part(part, progress)) for path, part in waiting.items())
    for path, tally in done:
        tally.save(path)
        if elsewhere:
            _report(progress, len(waiting[path].indices))
    merged = Tally()
    for path in files:
        merged.merge(Tally.load(path))
    for path in folder.glob("*part-*.npz"):
        path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
    if not merged.records:
        causes = fault_sentences(merged.faults, len(merged.faults))
        raise Vl4adError(f"No frame can be evaluated. {' '.join(causes)}")
    return merged


def _finished(folder: Path, run: str, indices: Sequence[int]) -> dict[int, Path]:
    """Return the frames of a run that are in stored parts (their names tell the first and the last), with the part."""
    finished: dict[int, Path] = {}
    for path in sorted(folder.glob(f"part-{run}-*.npz")):
        first, last = (int(text) for text in path.stem.rsplit("-", 2)[1:])
        here = [index for index in indices if first <= index <= last]
        if not finished.keys() & set(here):
            finished |= dict.fromkeys(here, path)
    return finished


def _unfinished(parts: Sequence[Part], finished: Container[int]) -> Iterator[Part]:
    """Yield what is left of the parts, in pieces without a gap."""
    for part in parts:
        for done, indices in groupby(part.indices, key=finished.__contains__):
            if not done:
                yield replace(part, indices=list(indices))


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
                try:
                    yield futures[future], future.result()
                except BrokenProcessPool as error:
                    raise Vl4adError(
                        "A process of --jobs was ended from outside, perhaps for want of memory; the same command with "
                        "fewer --jobs goes on where it stopped."
                    ) from error


def evaluate_on_one_thread(part: Part) -> Tally:
    """Evaluate a part in a process beside others: each takes one core, unless the detector's threads were named."""
    cv2.setNumThreads(1)
    predictor = part.predictor
    if isinstance(predictor, DetectorSpec) and predictor.threads == 0:
        part = replace(part, predictor=replace(predictor, threads=1))
    return evaluate_part(part)


def about_run(source: FrameSource, predictor: dict[str, Any], settings: EvaluationSettings) -> dict[str, Any]:
    """Return what `result.json` says of a run besides its figures."""
    from vl4ad_ros.io.provenance import provenance

    return {
        **provenance(),
        "source": source.description,
        "detector": predictor,
        "settings": dataclasses.asdict(settings),
    }
