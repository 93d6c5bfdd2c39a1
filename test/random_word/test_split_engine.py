"""A graph in two halves gives what the whole gives, and runs the image's half once per image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mock_bundle import write_mock_bundle

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.random_word.split_engine import SplitEngine
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine
from vl4ad_ros.runtime.random_word_network import untrained_network


@pytest.mark.parametrize("kind", ["dense with both methods", "mock"])
def test_the_halves_equal_the_whole(kind: str, exported_bundle: Path, tmp_path: Path) -> None:
    both = kind != "mock"
    bundle = ModelBundle.load(exported_bundle if both else write_mock_bundle(tmp_path / "mock"))
    split, whole = SplitEngine(bundle, threads=1), OnnxRuntimeEngine(bundle, threads=1)
    detector = Detector(bundle, split)
    prompts = [detector.prompts(scoring=scoring) for scoring in ("vl4ad", "entropy")]
    if both:
        network = untrained_network(bundle.card.embedding_dim, bundle.card.text_encoder)
        prompts += [detector.prompts(method=method, random_word=network) for method in ("random_word", "both")]
    rng = np.random.default_rng(0)
    maps = []
    for _ in range(2):
        image = detector.preprocess(rng.integers(0, 256, (64, 96, 3)).astype(np.uint8))[None]
        for one in prompts:
            maps.append(split.infer(image, one))
            np.testing.assert_allclose(maps[-1], whole.infer(image, one), atol=1e-5)
    assert np.ptp(maps[0]) > 0.01
    # An array that is filled anew is another image.
    image[:] = 255 - image
    np.testing.assert_allclose(split.infer(image, prompts[0]), whole.infer(image, prompts[0]), atol=1e-5)


def test_a_damaged_graph_is_named(tmp_path: Path) -> None:
    bundle = ModelBundle.load(write_mock_bundle(tmp_path / "mock"))
    bundle.onnx_path.write_bytes(b"nothing")
    with pytest.raises(Vl4adError, match="cannot load the graph"):
        SplitEngine(bundle)
