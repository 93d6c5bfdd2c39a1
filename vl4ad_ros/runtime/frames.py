"""Frames and their results: what is asked for, and the steps from the score to map, mask and regions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.media import read_picture
from vl4ad_ros.runtime.bundle import threshold_key
from vl4ad_ros.runtime.prompt_tensors import PromptTensors
from vl4ad_ros.runtime.regions import Region, find_regions
from vl4ad_ros.runtime.scores import to_uncertainty
from vl4ad_ros.runtime.settings import GroundSettings, OutputSettings, TrackSettings

GIVEN = "given"


@dataclass(frozen=True, eq=False)
class FrameState:
    """The live settings in force. A frame takes one reference and uses only that, so that no frame can mix two."""

    prompts: PromptTensors  # the prompt set with scoring, method and temperature, ready for the graph
    threshold: float = 0.5  # of the anomaly mask, [0, 1]
    threshold_from: str = GIVEN  # name of the prompt set that it was chosen for; GIVEN where the user has set it
    method: str = "vl4ad"  # name of the anomaly method that the prompts were packed for
    # What identifies the random-word network among the prompts' inputs; None where the method has none.
    random_word: Mapping[str, str] | None = None
    version: int = 1  # counts up with each change that can alter a map, a mask or a region
    batch_wait_s: float = 0.0  # patience for the frames of other cameras, seconds
    output: OutputSettings = field(default_factory=lambda: OutputSettings(min_region_area=0))  # what is made of a map
    tracks: TrackSettings = field(default_factory=TrackSettings)  # how regions are followed
    ground: GroundSettings = field(default_factory=GroundSettings)  # where the ground is

    @property
    def threshold_note(self) -> str:
        """What is to be said of a threshold that was chosen for another prompt set; empty for any other."""
        name = self.prompts.prompt_set.name
        if self.threshold_from in (GIVEN, name):
            return ""
        return (
            f"Prompt set '{name}' has no threshold of its own for {threshold_key(self.method, self.prompts.scoring)}; "
            f"that of '{self.threshold_from}' holds, {self.threshold:g}. 'vl4ad prompts thresholds' measures one."
        )


class RoiMask:
    """A camera's region of interest, stretched to the sizes that occur."""

    def __init__(self, path: str) -> None:
        """Read the image file."""
        try:
            image = cv2.cvtColor(read_picture(Path(path)), cv2.COLOR_RGB2GRAY)
        except Vl4adError as error:
            raise Vl4adError(f"roi_masks: {error}") from error
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
    """Which outputs somebody listens to."""

    uncertainty: bool = True
    mask: bool = True
    regions: bool = False
    others: bool = False  # nothing of these, but what goes along with any result: camera_info, debug topics

    @property
    def anything(self) -> bool:
        """Whether there is anything to compute."""
        return self.uncertainty or self.mask or self.regions or self.others


OutputSize: TypeAlias = "str | tuple[int, int]"
"""`input` (the image's), `network`, `mask` (the score's own), or rows and columns."""

Room = Callable[[str, tuple[int, int], type[np.generic]], NDArray[Any]]
"""Makes the array that an output is written into, of its name (`uncertainty`, `mask`), shape and type."""


def own_room(name: str, shape: tuple[int, int], dtype: type[np.generic]) -> NDArray[Any]:
    """Return an array of its own, for results that go nowhere else."""
    del name
    return np.empty(shape, dtype)


@dataclass(frozen=True)
class Job:
    """One decoded frame."""

    image: NDArray[np.uint8]  # RGB, uint8 [H, W, 3]
    wanted: Wanted = field(default_factory=Wanted)  # outputs to make
    roi: RoiMask | None = None  # region of interest, or None
    room: Room = own_room  # where the outputs that are wanted are written
    size: OutputSize | None = None  # of the outputs; None takes the state's


@dataclass(frozen=True)
class Result:
    """The outputs of one frame; mask and regions are None where nobody wants them."""

    uncertainty: NDArray[np.float32]  # float32 [h, w] in [0, 1]
    mask: NDArray[np.uint8] | None  # uint8 [h, w], 0 or 255
    regions: tuple[Region, ...] | None  # components of the mask
    network_size: tuple[int, int]  # rows and columns that the network saw
    # Stage (`preprocess`, `engine`, `postprocess`) -> duration; a batch's stages count in full for each of its frames,
    # as each waits for all.
    milliseconds: dict[str, float]


def finish(
    raw: NDArray[np.float32],
    job: Job,
    network_size: tuple[int, int],
    state: FrameState,
    earlier: Mapping[str, float],
) -> Result:
    """Turn a raw score u, float32 [h, w], into the outputs that are wanted; `earlier` are milliseconds of stages."""
    began = time.perf_counter()
    score = to_uncertainty(raw, state.prompts.scoring, state.prompts.temperature)
    size = state.output.output_size if job.size is None else job.size
    sizes = {"input": job.image.shape[:2], "network": network_size, "mask": score.shape}
    height, width = sizes[size] if isinstance(size, str) else size
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
    regions = (
        find_regions(mask, uncertainty, state.output.min_region_area) if mask is not None and wanted.regions else None
    )
    stages = {**earlier, "postprocess": (time.perf_counter() - began) * 1e3}
    return Result(uncertainty, mask, regions, network_size, stages)


def upsample(
    scores: NDArray[np.float32], height: int, width: int, into: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Resize an uncertainty map float32 [h, w] bilinearly to height x width; the range stays.

    Returns `into`, contiguous, where it is given; else `scores` itself where that has the size, or a new array.
    """
    if scores.shape == (height, width):
        return scores if into is None else _kept(into, scores)
    resized = cv2.resize(scores, (width, height), dst=into, interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.float32) if into is None else _kept(into, resized)


def anomaly_mask(
    uncertainty: NDArray[np.float32], threshold: float, into: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Return 255 where the uncertainty float32 [H, W] is at or above the threshold, else 0: uint8, same shape."""
    # OpenCV's type information lacks the comparison with a number.
    mask = cv2.compare(uncertainty, float(threshold), cv2.CMP_GE, into)  # type: ignore[call-overload]
    return np.asarray(mask, dtype=np.uint8) if into is None else _kept(into, mask)


def _kept(into: NDArray[Any], result: Any) -> NDArray[Any]:
    """Return `into` with a result that OpenCV was to write there; where it could not, it made an array of its own."""
    if not np.shares_memory(into, result):
        np.copyto(into, result)
    return into
