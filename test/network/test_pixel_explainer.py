from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.pixel_explainer import PixelExplainer, pixel_span
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector

IMAGE = np.random.default_rng(0).integers(0, 256, (352, 640, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.open("vl4ad-small")


@pytest.fixture(scope="module")
def explainer(detector: Detector) -> PixelExplainer:
    return PixelExplainer(detector.bundle)


def test_the_explained_uncertainty_is_the_published_one(detector: Detector, explainer: PixelExplainer) -> None:
    state = detector.state("cityscapes_ood")
    published = detector.detect(IMAGE, state.prompts, size="mask")
    embedding = explainer.embed(IMAGE)
    assert embedding.shape[:2] == published.shape
    for row, column in ((0, 0), (20, 33), (43, 79)):
        found = explainer.explain(embedding[row, column], state.prompts, state.threshold)
        assert found.uncertainty == pytest.approx(published[row, column], abs=1e-4)
        cosines = [concept.cosine for concept in found.concepts]
        assert cosines == sorted(cosines, reverse=True)
        assert found.explained_by in state.prompts.prompt_set.columns[: state.prompts.prompt_set.num_id]


def test_with_the_missing_cosine_the_alarm_would_end(detector: Detector, explainer: PixelExplainer) -> None:
    prompts = detector.prompts()
    pixel = explainer.embed(IMAGE)[20, 33]
    threshold = explainer.explain(pixel, prompts, 1.0).uncertainty / 2
    found = explainer.explain(pixel, prompts, threshold)
    assert found.missing_cosine > 0
    # The class's evidence grows by exp(d / T), that of all others stays.
    evidence = found.posterior * np.exp(found.missing_cosine / prompts.temperature)
    assert 1 - evidence / (evidence + 1 - found.posterior) == pytest.approx(threshold, abs=1e-6)
    assert explainer.explain(pixel, prompts, 1.0).missing_cosine == 0


def test_the_span_holds_what_pixels_can_have(detector: Detector, explainer: PixelExplainer, mock_bundle: Path) -> None:
    span = pixel_span(detector.bundle)
    assert span is not None
    np.testing.assert_allclose(span.T @ span, np.eye(span.shape[1]), atol=1e-5)
    inside, outside = span.T[:4], np.linalg.svd(span.T)[2][-4:].astype(np.float32)
    embedding = explainer.embed(IMAGE)[::8, ::8]
    assert np.abs(explainer.cosines(embedding, inside)).max() > 0.01
    assert np.abs(explainer.cosines(embedding, outside)).max() < 1e-5
    assert pixel_span(ModelBundle.load(mock_bundle)) is None


def test_a_network_without_pixel_embeddings_is_refused(mock_bundle: Path) -> None:
    with pytest.raises(Vl4adError, match="dense"):
        PixelExplainer(ModelBundle.load(mock_bundle))
