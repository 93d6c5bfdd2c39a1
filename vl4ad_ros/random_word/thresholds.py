"""The anomaly mask's threshold of every method and score of a bundle, chosen on generated scenes.

Methods and scores use different parts of [0, 1]: each gets the threshold of the largest pixel F1 on the scenes that
training validates with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.pixel_metrics import PixelMetrics, PixelResult
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.random_word.split_engine import SplitEngine
from vl4ad_ros.runtime.bundle import ModelBundle, threshold_key, write_card
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.prompt_tensors import PromptTensors
from vl4ad_ros.runtime.random_word_files import choices
from vl4ad_ros.training.command import TrainOptions, configured
from vl4ad_ros.training.data import load_data
from vl4ad_ros.training.validation_scenes import generate_scenes

Scene = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""An image uint8 [H, W, 3] and its labels uint8 [H, W]: 1 anomaly, 0 none, 255 left out."""


def choose_thresholds(bundle: ModelBundle, scenes: Iterable[Scene], threads: int = 0) -> dict[str, tuple[float, float]]:
    """Return the threshold of the largest pixel F1 on scenes with anomalies, and that F1, by `bundle.threshold_key`."""
    detector = Detector(bundle, SplitEngine(bundle, threads))
    pairs = choices(bundle)
    prompts = [detector.prompts(scoring=scoring, method=method) for method, scoring in pairs]
    results = measure(detector, prompts, scenes)
    detector.close()
    if not results[0].positives:
        raise Vl4adError("The scenes hold no anomaly to choose a threshold on.")
    return {
        threshold_key(method, scoring): (float(np.clip(round(result.best_f1_threshold, 3), 0, 1)), result.best_f1)
        for (method, scoring), result in zip(pairs, results, strict=True)
    }


def measure(detector: Detector, prompts: Sequence[PromptTensors], scenes: Iterable[Scene]) -> list[PixelResult]:
    """Return the pixel metrics over scenes of each set of prompts."""
    metrics = [PixelMetrics() for _ in prompts]
    for image, labels in scenes:
        for packed, collector in zip(prompts, metrics, strict=True):
            collector.add(detector.detect(image, packed, labels.shape), labels)
    return [collector.result() for collector in metrics]


def put_on_card(bundle: ModelBundle, chosen: dict[str, tuple[float, float]]) -> ModelBundle:
    """Write the thresholds onto the bundle's card, that of the default score as its default, with their origin."""
    own = {name: threshold for name, (threshold, _) in chosen.items()}
    default = own.get(threshold_key("vl4ad", bundle.card.default_score), bundle.card.default_threshold)
    f1 = {name: round(f1, 4) for name, (_, f1) in chosen.items()}
    scores = bundle.card.scores | {
        "thresholds": {"how": "largest pixel F1 on the generated validation scenes", "f1": f1}
    }
    card = bundle.card.model_copy(update={"default_threshold": default, "thresholds": own, "scores": scores})
    return ModelBundle(bundle.path, write_card(bundle.path, card))


def scenes_of_run(config_file: Path, data_root: Path | None) -> list[Scene]:
    """Return the scenes that a training validates with; the same for its seed."""
    config = configured(TrainOptions(config_file, data_root))
    made = generate_scenes(load_data(config), config.validation, config.seed)
    if not made:
        raise Vl4adError(f"{config_file} has no objects to paste, so that there are no scenes to choose on.")
    return [(scene.image, scene.truth) for scene in made]
