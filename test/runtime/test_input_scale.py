"""The size of the network's input as a setting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector

IMAGE = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)


@pytest.mark.parametrize(("scale", "size"), [(0.5, (192, 320)), (1.0, (352, 640)), (2.0, (704, 1280))])
def test_the_network_sees_the_scaled_picture(scale: float, size: tuple[int, int]) -> None:
    detector = Detector.open("vl4ad-small", input_scale=scale)
    assert detector.preprocess(IMAGE).shape[:2] == size
    assert detector.detect(IMAGE, detector.prompts()).shape == (360, 640)


def test_a_network_of_one_size_refuses(mock_bundle: Path) -> None:
    bundle = ModelBundle.load(mock_bundle)
    fixed = ModelBundle(bundle.path, bundle.card.model_copy(update={"num_queries": 100}))
    assert fixed.scaled(1.0) == fixed
    with pytest.raises(Vl4adError, match="input_scale"):
        fixed.scaled(2.0)
