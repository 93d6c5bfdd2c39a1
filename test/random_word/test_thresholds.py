"""A threshold of its own for each method and score, from scenes whose best threshold is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.random_word.thresholds import Scene, choose_thresholds, put_on_card
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector, next_state
from vl4ad_ros.runtime.random_word_files import choices, install
from vl4ad_ros.runtime.random_word_network import cosine_network
from vl4ad_ros.runtime.settings import PARAMETERS


@pytest.fixture
def bundle(both_bundle: Path) -> ModelBundle:
    """Red and green are normal in the prompts; the network takes green for normal and blue for anomalous."""
    means = np.array([[0, 1, 0], [0, 0, 1]], np.float32)
    return install(ModelBundle.load(both_bundle), cosine_network(means, 0.5, "mock:rgb"))


def scenes() -> list[Scene]:
    """Green with a blue square, another one with a square half green, half blue, which only has to be found at all."""
    made = []
    for colour in ((0, 0, 255), (0, 128, 255)):
        image = np.zeros((64, 96, 3), np.uint8)
        image[..., 1] = 255
        image[16:48, 16:48] = colour
        labels = np.zeros((64, 96), np.uint8)
        labels[16:48, 16:48] = 1
        labels[12:16] = labels[48:52] = labels[:, 12:16] = labels[:, 48:52] = 255
        made.append((image, labels))
    return made


def test_each_method_and_score_separates_the_scenes_at_its_own_threshold(bundle: ModelBundle) -> None:
    assert len(choices(bundle)) == 2 * len(bundle.card.usable_scorings) + 1
    chosen = choose_thresholds(bundle, scenes(), threads=1)
    written = ModelBundle.load(put_on_card(bundle, chosen).path)
    assert {"vl4ad/vl4ad": written.card.default_threshold, **written.card.thresholds} == {
        name: threshold for name, (threshold, _) in chosen.items()
    }
    detector = Detector.open(written.path, threads=1)
    for method, scoring in choices(bundle):
        if scoring == "known_mass" and method != "random_word":
            continue  # Without void and OOD prompts nothing else is known to the softmax.
        threshold, _ = written.threshold(written.load_prompt_set(), method, scoring)
        prompts = detector.prompts(scoring=scoring, method=method)
        for image, labels in scenes():
            # A card's thresholds are rounded to three decimals, and here all pixels of a thing score the same.
            found = detector.detect(image, prompts) >= threshold - 0.0006
            assert found[labels == 1].mean() > 0.95, (method, scoring)
            assert not found[labels == 0].any(), (method, scoring)
    assert len(set(written.card.thresholds.values())) > 3
    detector.close()


def test_the_node_takes_the_method_s_own_threshold_and_a_given_one_stays(bundle: ModelBundle) -> None:
    card = put_on_card(bundle, {"random_word": (0.25, 0.9), "vl4ad/msp": (0.75, 0.9)}).card
    detector = Detector.open(bundle.path, threads=1)
    values: dict[str, Any] = {parameter.name: parameter.default for parameter in PARAMETERS}
    state = None
    steps: tuple[tuple[dict[str, Any], float], ...] = (
        ({}, card.default_threshold),
        ({"method": "random_word"}, 0.25),
        ({"method": "vl4ad", "scoring": "msp"}, 0.75),
        ({"scoring": "entropy"}, card.default_threshold),
        ({"method": "random_word", "threshold": 0.6}, 0.6),
    )
    for changes, expected in steps:
        values |= changes
        state = next_state(detector, values, state, frozenset(changes))
        assert state.threshold == expected
    detector.close()


def test_scenes_without_anomalies_are_refused(bundle: ModelBundle) -> None:
    image, labels = scenes()[0]
    with pytest.raises(Vl4adError, match="no anomaly"):
        choose_thresholds(bundle, [(image, labels * 0)], threads=1)
