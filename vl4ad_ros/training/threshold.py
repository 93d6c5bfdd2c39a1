"""The anomaly mask's threshold, chosen on generated scenes with the exported graph."""

from __future__ import annotations

import numpy as np

from vl4ad_ros.evaluation.pixel_metrics import PixelMetrics
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.engine_factory import create_engine
from vl4ad_ros.training.validate import SceneWithTruth, truth_map


def choose_threshold(bundle: ModelBundle, scenes: list[SceneWithTruth]) -> tuple[float, float]:
    """Threshold on the published uncertainty with the largest pixel F1.

    Args:
        bundle: the exported bundle.
        scenes: picture, is-anomaly and is-labelled maps.

    Returns:
        Threshold, 0 to 1, and its F1.
    """
    detector = Detector(bundle, create_engine(bundle, "onnxruntime"))
    prompts = detector.prompts()
    metrics = PixelMetrics()
    for scene in scenes:
        metrics.add(detector.detect(scene[0], prompts), truth_map(scene))
    detector.close()
    result = metrics.result()
    return float(np.clip(round(result.best_f1_threshold, 3), 0.0, 1.0)), result.best_f1
