from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from toy_text import ANOMALOUS_WORDS, NORMAL_WORDS, ToyEncoder, toy_family

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.random_word.settings import TrainSettings, WordSettings
from vl4ad_ros.random_word.training import Embedded, TextData, coverage, prepare, train
from vl4ad_ros.runtime.random_word_network import load_network

SETTINGS = TrainSettings(
    samples=300, validation_samples=80, epochs=25, hidden=16, batch=64, rate=5e-3, text_encoder=ToyEncoder.id
)


@cache
def data_for(seed: int = 0, words: int = 4) -> TextData:
    settings = SETTINGS.model_copy(
        update={"seed": seed, "words": WordSettings(min_words=min(words, 1), max_words=words)}
    )
    return prepare(settings, toy_family(), ToyEncoder())


def test_learns_the_axis_that_is_known_to_be_right() -> None:
    network = train(data_for(), SETTINGS, ToyEncoder.id)
    for name in ("words", "states", "templates", "all"):
        result = network.card["validation"][name]
        assert result["auroc"] > 0.95, name
        assert result["accuracy"] > 0.9, name
    # Words that it has never seen, in a text that is no template: the sign along axis 0 decides.
    encoder = ToyEncoder()
    good = encoder.encode([f"{word} quux" for word in NORMAL_WORDS])
    bad = encoder.encode([f"{word} quux" for word in ANOMALOUS_WORDS])
    assert network.probability(good).max() < 0.5 < network.probability(bad).min()
    # The axis itself: one end normal, the other anomalous.
    axis = np.zeros((2, encoder.dim), np.float32)
    axis[:, 0] = [-1, 1]
    p = network.probability(axis)
    assert p[0] < 0.2
    assert p[1] > 0.8


def test_seeds_reproduce() -> None:
    first, again = (train(data_for(), SETTINGS, ToyEncoder.id) for _ in range(2))
    other = train(data_for(), SETTINGS.model_copy(update={"seed": 1}), ToyEncoder.id)
    np.testing.assert_array_equal(first.w1, again.w1)
    assert first.card["validation"] == again.card["validation"]
    assert not np.array_equal(first.w1, other.w1)
    again_data = prepare(SETTINGS, toy_family(), ToyEncoder())
    np.testing.assert_array_equal(again_data.train.rows, data_for().train.rows)
    assert not np.array_equal(data_for(seed=2).train.rows, data_for().train.rows)


@pytest.mark.parametrize("words", [0, 4])
def test_validation_places_words_as_the_training_does(words: int) -> None:
    held = data_for(words=words).validation["all"].rows
    # Without words there are 2 held-out states of each kind in 1 held-out template.
    assert (len(np.unique(held.round(5), axis=0)) > 2 * 2) == (words > 0)


def test_in_the_span_of_the_pixels_alone_the_axis_is_learnt_as_well() -> None:
    rng = np.random.default_rng(0)
    span = np.linalg.qr(np.column_stack([np.eye(ToyEncoder.dim)[0], rng.normal(size=(ToyEncoder.dim, 15))]))[0]
    span = span.astype(np.float32)
    data = prepare(SETTINGS, toy_family(), ToyEncoder(), span=span)
    np.testing.assert_allclose(data.train.rows @ span @ span.T, data.train.rows, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(data.train.rows, axis=1), 1, atol=1e-5)
    network = train(data, SETTINGS, ToyEncoder.id)
    assert network.card["validation"]["all"]["auroc"] > 0.95
    # What pixels cannot have has no part in it.
    np.testing.assert_allclose(span @ span.T @ network.w1, network.w1, atol=1e-5)


def test_start_scales_the_weights_that_no_prompt_teaches() -> None:
    data = data_for()
    flat = TextData(
        Embedded(data.train.rows * (np.arange(ToyEncoder.dim) < 24), data.train.labels),
        {
            name: Embedded(part.rows * (np.arange(ToyEncoder.dim) < 24), part.labels)
            for name, part in data.validation.items()
        },
        data.span,
    )
    sizes = [
        np.abs(train(flat, SETTINGS.model_copy(update={"start": start, "noise": 0.0}), ToyEncoder.id).w1[24:]).mean()
        for start in (1.0, 0.1)
    ]
    assert sizes[1] == pytest.approx(0.1 * sizes[0], rel=0.05)


def test_more_random_words_widen_the_coverage_of_held_out_prompts() -> None:
    for seed in (0, 1):
        held = data_for(seed, 4).validation["all"]
        none, one, two, four = (coverage(data_for(seed, words).train, held) for words in (0, 1, 2, 4))
        assert none + 0.05 < one + 0.02 < two < four - 0.02, seed


def test_coverage_on_paper() -> None:
    axes = np.eye(3, dtype=np.float32)
    labels = np.array([0, 1])
    held = Embedded(np.array([[0.6, 0, 0.8], [0, 1, 0]], np.float32), labels)
    assert coverage(Embedded(axes[[0, 1]], labels), held) == pytest.approx((0.36 + 1) / 2)
    assert coverage(Embedded(axes[[0, 2]], labels), held) == pytest.approx((1 + 0) / 2)
    # A direction with 1 of 100 parts of the energy lies outside the 95 %.
    rare = Embedded(axes[[0] * 98 + [1, 2]], np.array([0, 1] * 50))
    assert coverage(rare, held) == pytest.approx(0.36 / 2)


def test_early_stopping_keeps_the_best_pass() -> None:
    reports: list[tuple[int, float, float]] = []
    settings = SETTINGS.model_copy(update={"epochs": 200, "patience": 3, "rate": 3e-2, "samples": 60, "refit": False})
    data = prepare(settings, toy_family(), ToyEncoder())
    network = train(data, settings, ToyEncoder.id, lambda *report: reports.append(report))
    losses = [report[2] for report in reports]
    assert network.card["epochs"] == len(losses) < 200
    assert int(np.argmin(losses)) + 1 == network.card["best_epoch"] == len(losses) - 3
    held = data.validation["all"]
    p = np.clip(network.probability(held.rows).astype(np.float64), 1e-7, 1 - 1e-7)
    loss = -np.where(held.labels == 1, np.log(p), np.log(1 - p)).mean()
    assert loss == pytest.approx(min(losses), abs=1e-4)


def test_refit_learns_from_the_validation_prompts_as_well() -> None:
    data = data_for()
    plain, again = (train(data, SETTINGS.model_copy(update={"refit": refit}), ToyEncoder.id) for refit in (False, True))
    assert plain.card["validation"] == again.card["validation"]
    assert plain.card["prompts"]["train"] == 600
    assert again.card["prompts"]["train"] == 600 + 4 * 160
    rows = np.concatenate([data.train.rows, *(part.rows for part in data.validation.values())])
    labels = np.concatenate([data.train.labels, *(part.labels for part in data.validation.values())])
    np.testing.assert_allclose(again.text_means[1], rows[labels == 1].mean(axis=0), atol=1e-6)
    assert not np.array_equal(plain.w1, again.w1)


def test_file_round_trip_and_its_faults(tmp_path: Path) -> None:
    network = train(data_for(), SETTINGS.model_copy(update={"epochs": 1}), ToyEncoder.id)
    network.save(tmp_path / "n.safetensors")
    loaded = load_network(tmp_path / "n.safetensors")
    np.testing.assert_array_equal(loaded.w1, network.w1)
    np.testing.assert_array_equal(loaded.text_means, network.text_means)
    assert loaded.card == network.card
    assert loaded.card["images"].startswith("none")
    assert loaded.encoder_id == ToyEncoder.id
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(Vl4adError, match="cannot be read as a random-word network"):
        load_network(tmp_path / "broken.safetensors")
    with pytest.raises(Vl4adError, match="cannot be read"):
        load_network(tmp_path / "none.safetensors")
    with pytest.raises(Vl4adError, match="b1 is not finite"):
        replace(network, b1=network.b1 * np.float32("nan"))
    with pytest.raises(Vl4adError, match="shapes"):
        replace(network, b1=network.b1[:-1])
