"""The scores: hand-computed cases, properties, and the graph form against the NumPy reference."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formulas import anomaly_score
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.score_reference import class_posterior, column_cosines
from vl4ad_ros.runtime.bundle import BundleCard, ModelBundle, write_card
from vl4ad_ros.runtime.detector import Detector, next_state
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.runtime.prompt_tensors import PromptLimits, PromptTensors, pack
from vl4ad_ros.runtime.scores import FIRST_SCORINGS, SCORINGS, image_score, to_uncertainty
from vl4ad_ros.runtime.settings import PARAMETERS

LIMITS = PromptLimits(concepts=12, columns=8, concepts_per_column=6)
COSINE = st.floats(-1, 1, width=32)


def test_eq_1_on_paper() -> None:
    posterior = class_posterior(np.array([[1.0, 0.0]]), temperature=0.5)
    np.testing.assert_allclose(posterior, [[1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))]])


def test_eq_2_on_paper() -> None:
    """Two queries, two classes: S_1 = 0.9*0.8 + 0.2*0.5, S_2 = 0.9*0.2 + 0.2*0.5; u = -max."""
    cosines = np.log(np.array([[0.8, 0.2], [0.5, 0.5]]))
    score = anomaly_score(np.array([[[0.9]], [[0.2]]]), cosines, num_id=2, temperature=1.0)
    np.testing.assert_allclose(score, [[-(0.9 * 0.8 + 0.2 * 0.5)]])


def test_ood_columns_take_mass_and_are_left_out_of_the_score() -> None:
    """The second column is OOD: the winner's mass does not count."""
    cosines = np.log(np.array([[0.2, 0.8]]))
    assert anomaly_score(np.ones((1, 1, 1)), cosines, num_id=1, temperature=1.0)[0, 0] == pytest.approx(-0.2)


def test_void_column_on_paper() -> None:
    posterior = class_posterior(np.zeros((1, 2)), 1.0, void=np.zeros(1))
    np.testing.assert_allclose(posterior, [[1 / 3, 1 / 3]])


def test_baselines_on_paper() -> None:
    masks = np.array([[[0.5]]])
    cosines = np.log(np.array([[0.75, 0.25]]))
    score = {s: float(anomaly_score(masks, cosines, 2, 1.0, s)[0, 0]) for s in SCORINGS}
    # Half of the pixel is claimed, the other half is spread over the two classes: p = 0.625, 0.375.
    assert score["vl4ad"] == pytest.approx(-0.375)
    assert score["msp"] == pytest.approx(-0.625)
    assert score["max_logit"] == pytest.approx(0.5 * -math.log(0.75))
    assert score["entropy"] == pytest.approx(-(0.625 * math.log(0.625) + 0.375 * math.log(0.375)) / math.log(2))
    assert score["rba"] == pytest.approx(-math.tanh(0.375) - math.tanh(0.125))
    assert score["known_mass"] == pytest.approx(-0.5)


def test_overlapping_masks_are_normalised() -> None:
    """S = 1.5, 0.5: beyond 1 in sum, p = 0.75, 0.25."""
    masks, cosines = np.ones((2, 1, 1)), np.log(np.array([[0.75, 0.25], [0.75, 0.25]]))
    assert anomaly_score(masks, cosines, 2, 1.0, "msp")[0, 0] == pytest.approx(-0.75)
    assert anomaly_score(masks, cosines, 2, 1.0, "known_mass")[0, 0] == pytest.approx(-2)


def test_what_void_and_ood_columns_take_is_spread() -> None:
    cosines, void = np.log(np.array([[0.3, 0.2, 0.3]])), np.log(np.array([0.2]))
    score = {s: float(anomaly_score(np.ones((1, 1, 1)), cosines, 2, 1.0, s, void, True)[0, 0]) for s in SCORINGS}
    assert score["vl4ad"] == pytest.approx(-0.3)
    assert score["msp"] == pytest.approx(-0.55)
    assert score["rba"] == score["known_mass"] == pytest.approx(-0.5)


def test_of_a_dense_model_rba_does_not_order_by_peakedness() -> None:
    """tanh would call a certain pixel (tanh 1 = 0.76) more anomalous than a uniform one (2 tanh 0.5 = 0.92)."""
    certain, uniform = (np.log(np.array([row])) for row in ([1.0, 1e-30], [0.5, 0.5]))
    scores = [anomaly_score(np.ones((1, 1, 1)), cosines, 2, 1.0, "rba", dense=True) for cosines in (certain, uniform)]
    np.testing.assert_allclose(scores[0], scores[1])


@pytest.mark.parametrize("scoring", [name for name in SCORINGS if name != "max_logit"])
@given(arrays(np.float64, (3, 4), elements=COSINE), arrays(np.float64, (3,), elements=st.floats(0, 1)))
def test_nothing_is_more_uncertain_than_a_pixel_that_no_mask_claims(
    scoring: str, cosines: np.ndarray, masks: np.ndarray
) -> None:
    pixels = np.stack([np.zeros(3), masks], axis=1)[..., None]
    (unclaimed,), (other,) = anomaly_score(pixels, cosines, 4, 0.2, scoring)
    assert unclaimed >= other - 1e-12
    expected = 1 - 1 / 4 if scoring == "msp" else 1
    assert to_uncertainty(np.array([unclaimed], np.float32), scoring, 0.2)[0] == pytest.approx(expected)


@given(arrays(np.float64, (3, 6), elements=COSINE))
def test_merging_never_lowers_a_superclass_cosine(cosines: np.ndarray) -> None:
    apart = column_cosines(cosines, np.array([0, 0, 1, 1, 2, 2]), 3)
    merged = column_cosines(cosines, np.array([0, 0, 0, 0, 1, 1]), 2)
    assert (merged[:, 0] >= apart[:, 0]).all()
    assert (merged[:, 0] >= apart[:, 1]).all()
    np.testing.assert_array_equal(merged[:, 1], apart[:, 2])


@given(arrays(np.float64, (4, 5), elements=COSINE), st.floats(0.02, 2.0))
def test_ood_columns_never_raise_the_id_mass(cosines: np.ndarray, temperature: float) -> None:
    without = class_posterior(cosines[:, :3], temperature).sum(axis=1)
    with_ood = class_posterior(cosines, temperature)[:, :3].sum(axis=1)
    assert (with_ood <= without + 1e-12).all()
    masks = np.full((4, 1, 1), 0.7)
    assert anomaly_score(masks, cosines, 3, temperature) >= anomaly_score(masks, cosines[:, :3], 3, temperature) - 1e-12


@given(arrays(np.float64, (3, 6), elements=COSINE), st.permutations(range(6)))
def test_permuting_concepts_changes_nothing(cosines: np.ndarray, order: list[int]) -> None:
    column = np.array([0, 0, 0, 1, 1, 2])
    np.testing.assert_array_equal(
        column_cosines(cosines[:, order], column[np.array(order)], 3), column_cosines(cosines, column, 3)
    )


@given(arrays(np.float64, (3, 4), elements=COSINE), arrays(np.float64, (3,), elements=COSINE), st.floats(0.05, 1.0))
def test_void_lowers_every_class_by_the_same_share(
    cosines: np.ndarray,
    void: np.ndarray,
    temperature: float,
) -> None:
    plain, with_void = class_posterior(cosines, temperature), class_posterior(cosines, temperature, void)
    share = with_void.sum(axis=1, keepdims=True)
    assert (share <= 1).all()  # 1 where void is too far to be seen in a float64
    np.testing.assert_allclose(with_void, plain * share, rtol=1e-9, atol=1e-300)


def random_set(rng: np.random.Generator, num_id: int, num_ood: int, temperature: float) -> CompiledPromptSet:
    sizes = [int(rng.integers(1, 3)) for _ in range(num_id)] + [1] * num_ood
    column = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    rng.shuffle(column)
    rows = rng.normal(size=(len(column), 5)).astype(np.float32)
    names = tuple(f"c{i}" for i in range(len(sizes)))
    return CompiledPromptSet(
        "random",
        "",
        names,
        tuple((n,) for n in names),
        tuple(f"t{i}" for i in range(len(column))),
        column,
        rows / np.linalg.norm(rows, axis=1, keepdims=True),
        num_id,
        temperature,
        "test:5",
        "",
    )


def graph_inputs(tensors: PromptTensors) -> list[Any]:
    import torch

    return [torch.from_numpy(a.copy()) for a in (tensors.class_concepts, tensors.class_mask, tensors.settings)]


@settings(max_examples=40)
@given(
    st.integers(0, 2**31),
    st.integers(1, 4),
    st.integers(0, 3),
    st.sampled_from(SCORINGS),
    st.floats(0.02, 1),
    st.booleans(),
)
def test_mask_graph_equals_the_reference(
    seed: int, num_id: int, num_ood: int, scoring: str, temperature: float, with_void: bool
) -> None:
    torch = pytest.importorskip("torch", reason="the export extra is not installed")
    from vl4ad_ros.network.score_graph import class_weights, score_of_masks

    rng = np.random.default_rng(seed)
    prompts = random_set(rng, num_id, num_ood, temperature)
    tensors = pack(prompts, LIMITS, 1.0, scoring)
    queries = rng.normal(size=(2, 7, 5)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=2, keepdims=True)
    logits = rng.normal(scale=4, size=(2, 7, 3, 4)).astype(np.float32)
    void = rng.uniform(-1, 1, size=(2, 7)).astype(np.float32) if with_void else None
    cosines = torch.from_numpy(queries @ tensors.text_embeddings.T)
    void_tensor = None if void is None else torch.from_numpy(void)
    concepts, mask, numbers = graph_inputs(tensors)
    weights = class_weights(cosines, concepts, mask, numbers, void_tensor)
    got = score_of_masks(torch.from_numpy(logits), weights, mask, numbers).numpy()
    for image in range(2):
        columns = column_cosines(queries[image] @ prompts.embeddings.T, prompts.concept_column, len(prompts.columns))
        masks = 1 / (1 + np.exp(-logits[image].astype(np.float64)))
        image_void = None if void is None else void[image]
        want = anomaly_score(masks, columns, num_id, temperature, scoring, image_void)
        np.testing.assert_allclose(got[image], want, rtol=2e-4, atol=2e-5)


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(0, 3), st.sampled_from(SCORINGS), st.floats(0.02, 1))
def test_dense_graph_is_one_query_per_pixel(
    seed: int, num_id: int, num_ood: int, scoring: str, temperature: float
) -> None:
    torch = pytest.importorskip("torch", reason="the export extra is not installed")
    from vl4ad_ros.network.score_graph import dense_score

    rng = np.random.default_rng(seed)
    prompts = random_set(rng, num_id, num_ood, temperature)
    tensors = pack(prompts, LIMITS, 1.0, scoring)
    pixels = rng.normal(size=(6, 5)).astype(np.float32)
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
    cosines = torch.from_numpy((pixels @ tensors.text_embeddings.T).reshape(1, 2, 3, -1))
    got = dense_score(cosines, *graph_inputs(tensors)).numpy()
    columns = column_cosines(pixels @ prompts.embeddings.T, prompts.concept_column, len(prompts.columns))
    one_hot = np.eye(6).reshape(6, 2, 3)
    want = anomaly_score(one_hot, columns, num_id, temperature, scoring, dense=True)
    np.testing.assert_allclose(got[0], want, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("resize", ["score", "classes", "masks"])
@pytest.mark.parametrize("scoring", SCORINGS)
def test_a_pixel_that_no_mask_claims_is_uncertain_in_every_graph(scoring: str, resize: str) -> None:
    torch = pytest.importorskip("torch", reason="the export extra is not installed")
    from vl4ad_ros.network.model import SCORES
    from vl4ad_ros.network.score_graph import class_weights

    rng = np.random.default_rng(0)
    tensors = pack(random_set(rng, 4, 1, 0.1), LIMITS, 1.0, scoring)
    concepts, mask, numbers = graph_inputs(tensors)
    cosines = torch.from_numpy(rng.uniform(-1, 1, (1, 7, LIMITS.concepts)).astype(np.float32))
    weights = class_weights(cosines, concepts, mask, numbers)
    raw = SCORES[resize](torch.full((1, 7, 8, 8), -40.0), weights, mask, numbers).numpy()
    expected = 1 - 1 / 4 if scoring == "msp" else 1
    np.testing.assert_allclose(to_uncertainty(raw, scoring, 0.1), expected, atol=1e-5)


def test_graphs_of_earlier_versions_know_the_first_scores() -> None:
    torch = pytest.importorskip("torch", reason="the export extra is not installed")
    from vl4ad_ros.network.score_graph import dense_score

    prompts, cosines = random_set(np.random.default_rng(0), 3, 1, 0.1), torch.rand(1, 2, 2, LIMITS.concepts)
    for scoring in FIRST_SCORINGS:
        old, new = (pack(prompts, LIMITS, 1.0, scoring, scorings=names) for names in (FIRST_SCORINGS, SCORINGS))
        assert len(new.settings) - len(old.settings) == len(SCORINGS) - len(FIRST_SCORINGS)
        maps = [dense_score(cosines, *graph_inputs(tensors)) for tensors in (old, new)]
        torch.testing.assert_close(maps[0], maps[1])
    with pytest.raises(Vl4adError, match="no score 'known_mass'"):
        pack(prompts, LIMITS, 1.0, "known_mass", scorings=FIRST_SCORINGS)


def test_published_map_is_bounded_and_free_of_nan() -> None:
    raw = np.array([-2.0, -1.0, -0.25, 0.0, 3.0, np.nan, np.inf, -np.inf], dtype=np.float32)
    np.testing.assert_array_equal(to_uncertainty(raw, "vl4ad", 0.1), np.array([0, 0, 0.75, 1, 1, 1, 1, 0], np.float32))
    np.testing.assert_allclose(to_uncertainty(np.array([-5.0, 0.0], np.float32), "max_logit", 0.1), [0.5, 1.0])
    np.testing.assert_array_equal(
        to_uncertainty(np.array([0.25, 1.5], np.float32), "entropy", 0.1), np.array([0.25, 1], np.float32)
    )


def test_the_picture_s_score_is_the_mean_of_the_largest_hundredth() -> None:
    rng = np.random.default_rng(0)
    values = np.linspace(0, 1, 20_000, dtype=np.float32)
    rng.shuffle(values)
    assert image_score(values.reshape(100, 200)) == pytest.approx(np.linspace(0, 1, 20_000)[-200:].mean(), abs=1e-6)
    assert image_score(np.array([[0.25, 0.75]], np.float32)) == 0.75
    assert image_score(np.zeros((8, 8), np.float32)) == 0


def test_the_card_names_the_score_that_is_used_by_default(mock_bundle: Path) -> None:
    bundle = ModelBundle.load(mock_bundle)
    assert bundle.card.scorings == list(FIRST_SCORINGS) and bundle.card.default_score == "vl4ad"
    write_card(
        bundle.path,
        bundle.card.model_copy(update={"default_score": "max_logit", "thresholds": {"vl4ad/max_logit": 0.3}}),
    )
    detector = Detector.open(mock_bundle)
    assert detector.prompts().scoring == "max_logit"
    assert detector.prompts(scoring="vl4ad").scoring == "vl4ad"
    values = {parameter.name: parameter.default for parameter in PARAMETERS}
    state = next_state(detector, values, None)
    assert (state.prompts.scoring, state.threshold) == ("max_logit", 0.3)
    assert next_state(detector, {**values, "scoring": "msp"}, state).prompts.scoring == "msp"
    detector.close()


def test_rba_needs_a_trained_void(mock_bundle: Path) -> None:
    bundle = ModelBundle.load(mock_bundle)
    prompts, card = bundle.load_prompt_set(), bundle.card.model_copy(update={"void": True})
    assert card.pack(prompts, "rba").scoring == "rba"
    with pytest.raises(Vl4adError, match="void column was not trained"):
        bundle.card.pack(prompts, "rba")
    with pytest.raises(ValueError, match="default_score"):
        BundleCard(**{**bundle.card.model_dump(), "default_score": "rba"})
