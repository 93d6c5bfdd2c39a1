"""The network's own computations: shortcuts against the long way, score against formulas, training, the twin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from formulas import anomaly_score
from transformers.models.mask2former.modeling_mask2former import Mask2FormerTransformerModule

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network import score_reference as reference
from vl4ad_ros.network.backbone import ClipBackbone, LiteBackbone
from vl4ad_ros.network.config import VL4AD_LITE, VL4AD_TINY, EnsembleConfig, HeadConfig, NetworkConfig
from vl4ad_ros.network.head import mask_pool
from vl4ad_ros.network.lite_encoder import PIXEL_MEAN, PIXEL_STD
from vl4ad_ros.network.model import VL4ADNetwork
from vl4ad_ros.prompts.compile import compile_prompt_set
from vl4ad_ros.prompts.encoders import class_encoder_id, create_encoder
from vl4ad_ros.prompts.schema import PromptSet
from vl4ad_ros.runtime.prompt_tensors import PromptLimits, PromptTensors, pack
from vl4ad_ros.runtime.scores import SCORINGS

LIMITS = PromptLimits(concepts=12, columns=6, concepts_per_column=3)


class RandomWords:
    """A text encoder that makes a fixed random direction of every text."""

    id = "test:random"

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def encode(self, texts: list[str]) -> np.ndarray:
        rows = np.stack([np.random.default_rng(list(text.encode())).normal(size=self.dim) for text in texts])
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def prompts(scoring: str = "vl4ad", dim: int = 384, temperature: float = 0.2) -> PromptTensors:
    classes = {"road": ["road", "street"], "car": ["car"], "sky": ["sky", "clouds", "cloud"]}
    compiled = compile_prompt_set(PromptSet(name="test", classes=classes, ood=["cow"]), RandomWords(dim))
    return pack(compiled, LIMITS, temperature, scoring)


def graph_inputs(tensors: PromptTensors) -> list[torch.Tensor]:
    return [torch.from_numpy(array.copy()) for array in tensors.graph_inputs().values()]


def network(config: NetworkConfig = VL4AD_TINY, seed: int = 0) -> VL4ADNetwork:
    """A network whose score stays at the masks' resolution; resizing has its own tests (test_image_score.py)."""
    torch.manual_seed(seed)
    return VL4ADNetwork(config.model_copy(update={"resize": "score"})).eval()


def clip_tower(net: VL4ADNetwork) -> ClipBackbone:
    assert isinstance(net.backbone, ClipBackbone)
    return net.backbone


def pictures(batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    coarse = torch.rand((batch, 3, 4, 6), generator=generator)
    return (F.interpolate(coarse, size=(64, 96)) * 255).permute(0, 2, 3, 1).to(torch.uint8)


def test_the_short_way_through_the_decoder_equals_transformers_own() -> None:
    net = network()
    decoder = net.head.query_decoder
    with torch.no_grad():
        # Random queries have empty or full masks; sharper mask embeddings make masks of all kinds.
        for block in decoder.decoder.mask_predictor.mask_embedder.layers:
            block.layers[0].weight.mul_(4)
        theirs = Mask2FormerTransformerModule(VL4AD_TINY.head.conv_dim, decoder.decoder.config).eval()
        theirs.load_state_dict(decoder.state_dict())
        mask_features, multi_scale = net.head.pixel_decoder(net.features(pictures()))
        expected = theirs(list(multi_scale), mask_features).masks_queries_logits
        states = decoder(multi_scale, mask_features, auxiliary=True)
        (last,) = decoder(multi_scale, mask_features)
    assert len(states) == len(expected) == 4
    assert 0.05 < (last.mask_logits > 0).float().mean() < 0.95
    for state, masks in zip([*states, last], [*expected, expected[-1]], strict=True):
        torch.testing.assert_close(state.mask_logits, masks, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(last.queries, states[-1].queries)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_the_score_follows_the_formulas(scoring: str) -> None:
    net, tensors = network(), prompts(scoring)
    with torch.no_grad():
        image = pictures()
        score = net(image, *graph_inputs(tensors)).numpy()
        prediction = net.head(net.features(image))[-1]
    assert score.shape == (2, 16, 24)
    compiled = tensors.prompt_set
    for index in range(2):
        cosines = prediction.embeddings[index].numpy() @ compiled.embeddings.T
        expected = anomaly_score(
            prediction.mask_logits[index].sigmoid().numpy(),
            reference.column_cosines(cosines, compiled.concept_column, 4),
            num_id=3,
            temperature=0.2,
            scoring=scoring,
            void=prediction.void[index].numpy(),
        )
        np.testing.assert_allclose(score[index], expected, atol=1e-4, rtol=1e-4)
    assert score.std() > 1e-4


def test_void_and_temperature_are_what_was_learned() -> None:
    net = network()
    with torch.no_grad():
        prediction = net.head(net.features(pictures()))[-1]
        direction = F.normalize(net.head.void_embedding, dim=-1)[0]
        torch.testing.assert_close(prediction.void, prediction.embeddings @ direction, atol=1e-6, rtol=0)
        torch.testing.assert_close(prediction.embeddings.norm(dim=-1), torch.ones(2, 32), atol=1e-5, rtol=0)
        assert net.temperature == pytest.approx(0.07, rel=1e-5)
        net.head.logit_scale.fill_(9.0)
    assert net.temperature == pytest.approx(0.01, rel=1e-5)  # at most a scale of 100


def test_mask_pooling_averages_inside_the_mask() -> None:
    features = torch.arange(24.0).reshape(1, 2, 3, 4)
    logits = torch.full((1, 3, 3, 4), -1.0)
    logits[0, 0, 1, 1:3] = 2.0
    logits[0, 1] = 0.5
    pooled = mask_pool(features, logits)
    np.testing.assert_allclose(pooled[0].numpy(), np.array([[5.5, 17.5], [5.5, 17.5], [0, 0]]), atol=1e-5)
    # Half precision: more pixels than float16 can count.
    big = torch.ones((1, 1, 512, 512), dtype=torch.float16)
    np.testing.assert_allclose(mask_pool(big * 3, big).float().numpy(), 3, atol=0.02)


def ensemble_network() -> VL4ADNetwork:
    net = network(VL4AD_TINY.model_copy(update={"ensemble": EnsembleConfig(vocabulary_size=3)}))
    assert net.ensemble is not None
    seen = RandomWords(384).encode(["street", "sky", "house"])
    net.ensemble.vocabulary.copy_(torch.from_numpy(seen))
    return net


def test_the_out_of_vocabulary_branch_is_a_geometric_mean() -> None:
    net, tensors = ensemble_network(), prompts()
    with torch.no_grad():
        image = pictures()
        score = net(image, *graph_inputs(tensors)).numpy()
        features = net.features(image)
        prediction = net.head(features)[-1]
        masks = F.interpolate(prediction.mask_logits, size=(2, 3), mode="bilinear", align_corners=False)
        inside = (masks > 0).float()
        pooled = torch.einsum("bnhw,bchw->bnc", inside, features[-1]) / (inside.sum((2, 3))[..., None] + 1e-8)
        clip = F.normalize(clip_tower(net).embed_pooled(pooled), dim=-1).numpy()
    compiled = tensors.prompt_set
    exponent = np.array([0.4, 0.8, 0.4, 0.8])  # road (a synonym) and sky are in the vocabulary
    for index in range(2):
        inner = reference.column_cosines(
            prediction.embeddings[index].numpy() @ compiled.embeddings.T, compiled.concept_column, 4
        )
        outer = reference.column_cosines(clip[index] @ compiled.embeddings.T, compiled.concept_column, 4)
        p_in = reference.class_posterior(inner, 0.2)
        p_out = reference.class_posterior(outer, 0.01)
        mixed = p_in ** (1 - exponent) * p_out**exponent
        with_void = reference.class_posterior(inner, 0.2, prediction.void[index].numpy())
        weights = mixed / mixed.sum(1, keepdims=True) * with_void.sum(1, keepdims=True)
        support = np.einsum("nhw,nk->khw", prediction.mask_logits[index].sigmoid().numpy(), weights[:, :3])
        np.testing.assert_allclose(score[index], -support.max(0), atol=2e-4)


def test_the_vision_only_twin_is_a_linear_classifier() -> None:
    names = ("road", "car", "sky")
    head = VL4AD_TINY.head.model_copy(update={"classes": names})
    net = network(VL4AD_TINY.model_copy(update={"head": head, "text_encoder": class_encoder_id(names)}))
    classes: dict[str, list[str]] = {"sky": ["sky"], "ground": ["road"], "car": ["car"]}
    merged = PromptSet(name="twin", classes=classes, templates="plain", superclasses={"low": ["ground", "car"]})
    encoder = create_encoder(net.config.text_encoder)
    tensors = pack(compile_prompt_set(merged, encoder), LIMITS, net.temperature)
    assert (net.temperature, encoder.dim) == (1.0, 3)
    with torch.no_grad():
        image = pictures()
        score = net(image, *graph_inputs(tensors))
        mask_features, multi_scale = net.head.pixel_decoder(net.features(image))
        state = net.head.query_decoder(multi_scale, mask_features)[-1]
        logits = net.head.classifier(net.head.class_head(mask_features, state))
        sky, low, void = logits[..., 2], logits[..., :2].amax(-1), logits[..., 3]
        weights = torch.stack([sky, low, void], -1).softmax(-1)[..., :2]
        expected = -torch.einsum("bnhw,bnk->bkhw", state.mask_logits.sigmoid(), weights).amax(1)
    torch.testing.assert_close(score, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(Vl4adError, match="no concept 'cow'"):
        compile_prompt_set(PromptSet(name="x", classes={"road": ["road"]}, ood=["cow"], templates="plain"), encoder)


def test_the_lite_backbone_gives_the_encoder_s_features_and_stays_frozen() -> None:
    torch.manual_seed(0)
    net = VL4ADNetwork(VL4AD_LITE)
    image = pictures()
    assert isinstance(net.backbone, LiteBackbone)
    expected = net.backbone.encoder((image.permute(0, 3, 1, 2).float() - PIXEL_MEAN) / PIXEL_STD)
    for stride, got, wanted in zip((4, 8, 16, 32), net.train().features(image), expected, strict=True):
        assert got.shape[2:] == (image.shape[1] // stride, image.shape[2] // stride)
        torch.testing.assert_close(got, wanted.detach())
    assert not any(p.requires_grad for p in net.backbone.parameters())
    with pytest.raises(ValueError, match="no text space"):
        NetworkConfig(**{**VL4AD_LITE.model_dump(), "ensemble": {"vocabulary_size": 3}})


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(Vl4adError, match="channels"):
        VL4ADNetwork(VL4AD_TINY.model_copy(update={"backbone": "timm:convnext_tiny"}))
    for name in ("open_clip:convnext_large_x", "open_clip:RN50", "timm:resnet18"):
        with pytest.raises(Vl4adError, match=f"Unknown backbone '{name}'"):
            ClipBackbone(name, 768)
    with pytest.raises(ValueError, match="num_heads"):
        HeadConfig(num_heads=7)
