"""The state that a frame is processed with: an immutable object, replaced as a whole between frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vl4ad_ros.runtime.prompt_tensors import PromptTensors
from vl4ad_ros.runtime.settings import PromptSettings, from_ros

if TYPE_CHECKING:
    from vl4ad_ros.runtime.detector import Detector


@dataclass(frozen=True, eq=False)
class FrameState:
    """The live settings in force. A frame takes one reference and uses only that, so that no frame can mix two.

    Attributes:
        prompts: The prompt set with scoring, method and temperature, ready for the graph.
        threshold: Of the anomaly mask, [0, 1].
        method: Name of the anomaly method that the prompts were packed for.
        random_word: What identifies the random-word network among the prompts' inputs; None where the method has none.
        output_size: `input`, `network` or `mask`.
        min_region_area: Pixels.
        version: Counts up with each change that can alter a map, a mask or a region.
        max_rate: Frames per second and camera; 0 for no limit.
        enabled: Whether frames are processed at all.
        batch_wait_s: Patience for the frames of other cameras, seconds.
    """

    prompts: PromptTensors
    threshold: float = 0.5
    method: str = "vl4ad"
    random_word: Mapping[str, str] | None = None
    output_size: str = "input"
    min_region_area: int = 0
    version: int = 1
    max_rate: float = 0.0
    enabled: bool = True
    batch_wait_s: float = 0.0


_OF_THE_PROMPTS = ("prompt_set", "scoring", "method", "random_word", "temperature")
_OF_THE_RESULT = (*_OF_THE_PROMPTS, "threshold", "output_size", "min_region_area")


def next_state(
    detector: Detector, values: Mapping[str, Any], previous: FrameState | None, changed: frozenset[str] | None = None
) -> FrameState:
    """Make the state that the parameters ask for.

    Args:
        detector: The loaded detector.
        values: All parameters by name, as they shall be.
        previous: The state in force, or None.
        changed: Names of the parameters that were set; None for all. A prompt set or network that is named again is
            read again, so that a file made anew is taken up.

    Raises:
        Vl4adError: If the prompt set, scoring, method, network or temperature cannot be used with this bundle.
    """

    def touched(names: tuple[str, ...]) -> bool:
        return previous is None or changed is None or bool(changed & set(names))

    given = from_ros(values, PromptSettings.model_fields)
    if previous is None or touched(_OF_THE_PROMPTS):
        state = detector.state(**given)
    else:
        card, scoring = detector.bundle.card, previous.prompts.scoring
        own = card.threshold(previous.method, scoring)
        state = replace(previous, threshold=own if given["threshold"] is None else given["threshold"])
    return replace(
        state,
        version=1 if previous is None else previous.version + int(touched(_OF_THE_RESULT)),
        output_size=values["output_size"],
        min_region_area=int(values["min_region_area"]),
        max_rate=float(values["max_rate"]),
        enabled=bool(values["enabled"]),
        batch_wait_s=float(values["batch_wait_ms"]) / 1000,
    )
