"""The anomaly mask's threshold, chosen on generated scenes with the exported graph."""

from __future__ import annotations

import numpy as np

from vl4ad_ros.evaluation.pixel_metrics import PixelMetrics
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.engine import create_engine
from vl4ad_ros.training.validate import alarm_level, labelled_part
from vl4ad_ros.training.validation_scenes import ValidationScene


def choose_threshold(bundle: ModelBundle, scenes: list[ValidationScene]) -> tuple[float, float]:
    """Threshold on the published uncertainty with the largest pixel F1, or higher where that gives too many alarms.

    Args:
        bundle: the exported bundle.
        scenes: generated scenes.

    Returns:
        Threshold, 0 to 1, and its F1.
    """
    detector = Detector(bundle, create_engine(bundle, "onnxruntime"))
    prompts = detector.prompts()
    metrics = PixelMetrics()
    normal = []
    for scene in scenes:
        if scene.size:
            metrics.add(detector.detect(scene.image, prompts), scene.truth)
        else:
            normal.append(labelled_part(detector.detect(scene.image, prompts, "mask"), scene))
    detector.close()
    result = metrics.result()
    level = max(result.best_f1_threshold, alarm_level(normal) if normal else 0.0)
    return float(np.clip(round(level, 3), 0.0, 1.0)), result.best_f1
