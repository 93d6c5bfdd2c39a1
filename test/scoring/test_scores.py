"""The scores: hand-computed cases, properties, and the graph form against the NumPy reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.score_reference import anomaly_score, class_posterior, column_cosines
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.runtime.prompt_tensors import PromptLimits, PromptTensors, pack
from vl4ad_ros.runtime.scores import SCORINGS, image_score, to_uncertainty

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
    assert score["vl4ad"] == pytest.approx(-0.375)
    assert score["msp"] == pytest.approx(-0.75)
    assert score["max_logit"] == pytest.approx(0.5 * -math.log(0.75))
    assert score["entropy"] == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2))
    assert score["rba"] == pytest.approx(-math.tanh(0.375) - math.tanh(0.125))


def test_msp_is_of_the_closed_set() -> None:
    """Half of the mass goes to an OOD and a void column: Eq. 2 is halved, the closed-set softmax stays."""
    cosines, void = np.log(np.array([[0.3, 0.2, 0.3]])), np.log(np.array([0.2]))
    mask = np.ones((1, 1, 1))
    assert anomaly_score(mask, cosines, 2, 1.0, "vl4ad", void)[0, 0] == pytest.approx(-0.3)
    assert anomaly_score(mask, cosines, 2, 1.0, "msp", void)[0, 0] == pytest.approx(-0.6)


def test_unknown_scoring_is_refused() -> None:
    with pytest.raises(Vl4adError, match="got 'mps'"):
        anomaly_score(np.ones((1, 1, 1)), np.ones((1, 1)), 1, 1.0, "mps")


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
    from vl4ad_ros.network.score_graph import mask_score

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
    got = mask_score(torch.from_numpy(logits), cosines, concepts, mask, numbers, void_tensor).numpy()
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
    want = anomaly_score(one_hot, columns, num_id, temperature, scoring)
    np.testing.assert_allclose(got[0], want, rtol=2e-4, atol=2e-5)


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
