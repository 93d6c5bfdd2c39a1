"""From RGB frames to maps, masks and regions, timed stage by stage. Knows no ROS type."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.detector import Detector, anomaly_mask, upsample
from vl4ad_ros.runtime.frame_state import FrameState
from vl4ad_ros.runtime.regions import Region, find_regions
from vl4ad_ros.runtime.uncertainty import to_uncertainty


class RoiMask:
    """A camera's region of interest, stretched to the sizes that occur."""

    def __init__(self, path: str) -> None:
        """Read the image file.

        Raises:
            Vl4adError: If it cannot be read or is black all over.
        """
        image = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise Vl4adError(f"roi_masks: '{path}' cannot be read as an image.")
        # Half-way, not at 0: a JPEG's black is seldom 0 everywhere.
        self._outside = np.asarray(image < 128)
        if self._outside.all():
            raise Vl4adError(f"roi_masks: '{path}' is black all over, nothing would be looked at.")
        self._sized: NDArray[np.bool_] = self._outside

    def clear_outside(self, pixels: NDArray[np.float32] | NDArray[np.uint8]) -> None:
        """Set a map or mask [H, W] to 0 outside the region."""
        height, width = pixels.shape
        if self._sized.shape != (height, width):
            outside = self._outside.astype(np.uint8)
            self._sized = cv2.resize(outside, (width, height), interpolation=cv2.INTER_NEAREST) != 0
        np.putmask(pixels, self._sized, 0)


@dataclass(frozen=True)
class Wanted:
    """Which outputs somebody listens to.

    Attributes:
        uncertainty: The map.
        mask: The mask.
        regions: The regions.
        others: Nothing of these, but what goes along with any result: camera_info, debug topics.
    """

    uncertainty: bool = True
    mask: bool = True
    regions: bool = False
    others: bool = False

    @property
    def anything(self) -> bool:
        """Whether there is anything to compute."""
        return self.uncertainty or self.mask or self.regions or self.others


Room = Callable[[str, tuple[int, int], type[np.generic]], NDArray[Any]]
"""Makes the array that an output is written into, of its name (`uncertainty`, `mask`), shape and type."""


def own_room(name: str, shape: tuple[int, int], dtype: type[np.generic]) -> NDArray[Any]:
    """Return an array of its own, for results that go nowhere else."""
    del name
    return np.empty(shape, dtype)


@dataclass(frozen=True)
class Job:
    """One decoded frame.

    Attributes:
        image: RGB, uint8 [H, W, 3].
        wanted: Outputs to make.
        roi: Region of interest, or None.
        room: Where the outputs that are wanted are written.
    """

    image: NDArray[np.uint8]
    wanted: Wanted = field(default_factory=Wanted)
    roi: RoiMask | None = None
    room: Room = own_room


@dataclass(frozen=True)
class Result:
    """The outputs of one frame; mask and regions are None where nobody wants them.

    Attributes:
        uncertainty: float32 [h, w] in [0, 1].
        mask: uint8 [h, w], 0 or 255.
        regions: Components of the mask.
        network_size: Rows and columns that the network saw.
        milliseconds: Stage (`preprocess`, `engine`, `postprocess`) -> duration; a batch's stages count in full for
            each of its frames, as each waits for all.
    """

    uncertainty: NDArray[np.float32]
    mask: NDArray[np.uint8] | None
    regions: tuple[Region, ...] | None
    network_size: tuple[int, int]
    milliseconds: dict[str, float]


def run(detector: Detector, jobs: Sequence[Job], state: FrameState) -> list[Result]:
    """Process frames with one state; frames whose network sizes agree run as one batch.

    Raises:
        Vl4adError: If the engine fails.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    inputs: list[NDArray[np.uint8]] = []
    began = time.perf_counter()
    for index, job in enumerate(jobs):
        inputs.append(detector.preprocess(job.image))
        groups.setdefault(inputs[-1].shape[:2], []).append(index)
    preprocess_ms = (time.perf_counter() - began) * 1e3
    results: dict[int, Result] = {}
    for size, members in groups.items():
        batch = inputs[members[0]][None] if len(members) == 1 else np.stack([inputs[index] for index in members])
        began = time.perf_counter()
        raw = detector.engine.infer(batch, state.prompts)
        engine_ms = (time.perf_counter() - began) * 1e3
        for score, index in zip(raw, members, strict=True):
            results[index] = _finish(score, jobs[index], size, state, preprocess_ms, engine_ms)
    return [results[index] for index in range(len(jobs))]


def _finish(
    raw: NDArray[np.float32],
    job: Job,
    network_size: tuple[int, int],
    state: FrameState,
    preprocess_ms: float,
    engine_ms: float,
) -> Result:
    began = time.perf_counter()
    score = to_uncertainty(raw, state.prompts.scoring, state.prompts.temperature)
    sizes = {"input": job.image.shape[:2], "network": network_size, "mask": score.shape}
    height, width = sizes[state.output_size]
    wanted = job.wanted
    place = (job.room if wanted.uncertainty else own_room)("uncertainty", (height, width), np.float32)
    uncertainty = upsample(score, height, width, place)
    mask = None
    if wanted.mask or wanted.regions:
        place = (job.room if wanted.mask else own_room)("mask", (height, width), np.uint8)
        mask = anomaly_mask(uncertainty, state.threshold, place)
    if job.roi is not None:
        job.roi.clear_outside(uncertainty)
        if mask is not None:
            job.roi.clear_outside(mask)
    regions = find_regions(mask, uncertainty, state.min_region_area) if mask is not None and wanted.regions else None
    postprocess_ms = (time.perf_counter() - began) * 1e3
    stages = {"preprocess": preprocess_ms, "engine": engine_ms, "postprocess": postprocess_ms}
    return Result(uncertainty, mask, regions, network_size, stages)
