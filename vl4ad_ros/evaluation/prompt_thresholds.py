"""The mask's thresholds of prompt sets, chosen so that each alarms as often as the default set on normal frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.runtime.bundle import threshold_key
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.runtime.random_word_files import METHOD, choices, graph_inputs

LEVELS = np.arange(1, 200) / 200
# An alarm is a region of so many pixels of the frame: what the node reports unless it is told otherwise.
ALARM_AREA = 50


def count_alarms(uncertainty: NDArray[np.float32], levels: NDArray[np.float64], min_area: int = 1) -> NDArray[np.int64]:
    """Return the number of alarms at each level: connected regions of at least so many pixels of a map [H, W]."""
    counts = np.zeros(len(levels), np.int64)
    for place in np.flatnonzero(levels <= uncertainty.max()):
        mask = (uncertainty >= levels[place]).view(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        counts[place] = (stats[1:, cv2.CC_STAT_AREA] >= min_area).sum()
    return counts


def lowest_level(counts: NDArray[np.int64], levels: NDArray[np.float64], most: float) -> float:
    """Return the lowest level from which upwards there are at most so many alarms; 1 where there is none."""
    (above,) = np.nonzero(counts > most)
    return float([*levels, 1.0][above[-1] + 1 if len(above) else 0])


def match_alarms(
    detector: Detector, prompt_sets: Sequence[CompiledPromptSet], frames: Iterable[NDArray[np.uint8]]
) -> list[CompiledPromptSet]:
    """Return prompt sets with thresholds of their own, for each method and score that the card has one for.

    With them a set alarms as often as the bundle's default set at its threshold on the frames, RGB uint8 [H, W, 3] of
    roads without anomalies.
    """
    bundle = detector.bundle
    card, default = bundle.card, bundle.load_prompt_set()
    known = {*card.thresholds, threshold_key("vl4ad", card.default_score)}
    pairs = [pair for pair in choices(bundle) if pair[0] != METHOD and threshold_key(*pair) in known]
    inputs = {method: graph_inputs(bundle, method) for method, _ in pairs}
    own = [np.array([bundle.threshold(default, *pair)[0]]) for pair in pairs]
    packed = [
        [card.pack(one, scoring, None, method, inputs[method]) for method, scoring in pairs]
        for one in (default, *prompt_sets)
    ]
    counts = [[np.zeros(len(own[0] if row == 0 else LEVELS), np.int64) for _ in pairs] for row in range(len(packed))]
    for image in frames:
        # Twice as fine as the scores: nearly the regions of the full size, and quick to count.
        height, width = (2 * side // card.stride for side in bundle.network_size(*image.shape[:2]))
        area = max(1, round(ALARM_AREA * height * width / (image.shape[0] * image.shape[1])))
        for row, of_set in enumerate(packed):
            for column, prompts in enumerate(of_set):
                levels = own[column] if row == 0 else LEVELS
                counts[row][column] += count_alarms(detector.detect(image, prompts, (height, width)), levels, area)
    return [
        replace(
            one,
            thresholds={
                threshold_key(*pair): lowest_level(found, LEVELS, float(target[0]))
                for pair, found, target in zip(pairs, of_set, counts[0], strict=True)
            },
            thresholds_graph=bundle.onnx_sha256,
        )
        for one, of_set in zip(prompt_sets, counts[1:], strict=True)
    ]
