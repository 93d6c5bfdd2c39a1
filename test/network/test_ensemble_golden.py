"""An imported network's classes against FC-CLIP's equations, written out once more from the image to the posteriors.

Plain functions on a random checkpoint of ConvNeXt-Tiny's sizes: image tower, head (`reference_head`), text with the 14
templates, geometric ensemble. Nothing of it comes from the package; small prompt sets stand in for the shipped ones.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
import yaml
from mask_bundle import CONFIG
from numpy.typing import NDArray
from reference_head import State, expected_outputs, linear, random_state
from torch import Tensor

from vl4ad_ros.cli.main import main
from vl4ad_ros.network.backbone import ClipBackbone
from vl4ad_ros.network.checkpoint import load_network
from vl4ad_ros.network.head import Prediction, VocabularyEnsemble
from vl4ad_ros.network.model import VL4ADNetwork
from vl4ad_ros.prompts.compile import compile_file
from vl4ad_ros.prompts.encoders import create_encoder
from vl4ad_ros.runtime.prompt_tensors import PromptLimits, pack

Array = NDArray[np.float64]
Classes = dict[str, list[str]]
Loaded = tuple[VL4ADNetwork, VocabularyEnsemble, list[Tensor]]

MODEL = "vl4ad_test_convnext_tiny"
DIM, HEADS = 24, CONFIG.head.num_heads
HEAD = CONFIG.head.model_copy(update={"feature_channels": (96, 192, 384, 768), "num_queries": 40, "embedding_dim": DIM})
TRAINED = {"road": ["road"], "tree": ["tree", "trees"], "car": ["car", "cars"], "sky": ["sky", "clouds"]}
TESTED = {"road": ["street", "road"], "pole": ["pole"], "plants": ["vegetation", "tree"], "cow": ["cow", "calf"]}
SIZED = [
    text.format(size)
    for size in ("small", "medium", "large")
    for text in ("a photo of a {} %.", "This is a photo of a {} %.", "There is a {} % in the scene.")
]
TEMPLATES = [
    "a photo of a %.",
    "This is a photo of a %",
    "There is a % in the scene",
    "There is the % in the scene",
    "a photo of a % in the scene",
    *SIZED,
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A CLIP with ConvNeXt-Tiny and a very small text tower, in which every word and every block counts."""
    vision = {"timm_model_name": "convnext_tiny", "timm_pool": "", "timm_proj": "mlp", "image_size": 64}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    path = tmp_path_factory.mktemp("configs") / f"{MODEL}.json"
    path.write_text(json.dumps({"embed_dim": DIM, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(path)
    torch.manual_seed(2)
    model = open_clip.create_model(MODEL).eval()
    with torch.no_grad():
        model.token_embedding.weight.mul_(100)
        model.token_embedding.weight[-1] = 0  # the last token's output is then all of the words before it
        for name, parameter in model.visual.named_parameters():
            if name.endswith("gamma"):
                parameter.normal_(std=0.5)
            elif parameter.dim() > 1:
                parameter.normal_(std=(2 / parameter[0].numel()) ** 0.5)
    return model


@pytest.fixture(scope="module")
def imported(clip: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[State, Path]:
    """A random checkpoint, and the folder of the network that the command makes of it by default."""
    folder = tmp_path_factory.mktemp("fcclip")
    towers = {f"backbone.clip_model.{key}": value for key, value in clip.state_dict().items()}
    state = {**towers, **random_state(HEAD, 5)}
    torch.save({"model": state, "iteration": 3}, folder / "c.pth")
    for name, classes in (("trained", TRAINED), ("tested", TESTED)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"name": name, "classes": classes}, sort_keys=False))
    options = ["--backbone", f"open_clip:{MODEL}", "--text-encoder", f"open_clip:{MODEL}/test"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vl4ad_ros.cli.import_fcclip.VOCABULARY", folder / "trained.yaml")
        assert main(["import-fcclip", str(folder / "c.pth"), "--out", str(folder / "network"), *options]) == 0
    return state, folder / "network"


def layer_norm(state: State, name: str, x: Tensor) -> Tensor:
    """Over the channels of [C, h, w]."""
    weight, bias = state[name + ".weight"], state[name + ".bias"]
    return F.layer_norm(x.permute(1, 2, 0), weight.shape, weight, bias, eps=1e-6).permute(2, 0, 1)


def image_tower(state: State, x: Tensor) -> list[Tensor]:
    """ConvNeXt-Tiny: normalised [3, H, W] -> features [C, h, w] at strides 4, 8, 16, 32."""
    trunk = "backbone.clip_model.visual.trunk."

    def convolve(name: str, x: Tensor, **options: int) -> Tensor:
        return F.conv2d(x[None], state[name + ".weight"], state[name + ".bias"], **options)[0]

    x = layer_norm(state, trunk + "stem.1", convolve(trunk + "stem.0", x, stride=4))
    features = []
    for stage, depth in enumerate((3, 3, 9, 3)):
        name = f"{trunk}stages.{stage}."
        if stage:
            x = convolve(name + "downsample.1", layer_norm(state, name + "downsample.0", x), stride=2)
        for index in range(depth):
            block = f"{name}blocks.{index}."
            y = layer_norm(state, block + "norm", convolve(block + "conv_dw", x, padding=3, groups=x.shape[0]))
            y = linear(state, block + "mlp.fc2", F.gelu(linear(state, block + "mlp.fc1", y.permute(1, 2, 0))))
            x = x + (y * state[block + "gamma"]).permute(2, 0, 1)
        features.append(x)
    return features


def text_rows(clip: Any, concepts: list[str]) -> Tensor:
    """Unit rows [P, D], averaged over the templates."""
    texts = [template.replace("%", concept) for concept in concepts for template in TEMPLATES]
    with torch.no_grad():
        rows: Tensor = clip.encode_text(open_clip.get_tokenizer(MODEL)(texts))
    rows = (rows / rows.norm(dim=-1, keepdim=True)).reshape(len(concepts), len(TEMPLATES), -1).mean(1)
    return F.normalize(rows, dim=-1)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def image_head(state: State, pooled: Array) -> Array:
    """CLIP's own head on pooled features [N, C]."""
    visual = "backbone.clip_model.visual."
    part = {key[len(visual) :]: value.double().numpy() for key, value in state.items() if key.startswith(visual)}
    centred = pooled - pooled.mean(1, keepdims=True)
    x = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-6)
    x = (x * part["trunk.head.norm.weight"] + part["trunk.head.norm.bias"]) @ part["head.mlp.fc1.weight"].T
    x = x + part.get("head.mlp.fc1.bias", 0)
    gelu = x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2
    return np.asarray(gelu @ part["head.mlp.fc2.weight"].T + part.get("head.mlp.fc2.bias", 0))


def classify(
    state: State, masks: Array, logits: Array, dense: Array, text: Array, classes: Classes, on_valid_mask: bool
) -> tuple[Array, NDArray[np.bool_]]:
    """The geometric ensemble.

    From mask logits [N, h, w] at stride 4, class logits [N, K + 1] with void, CLIP's feature [C, h / 8, w / 8] and text
    rows [P, D]: the posteriors [N, K], and which masks have a pixel at stride 32.
    """
    # Halfway between two pixels lies the centre of eight: bilinear resizing averages the middle four of 8 x 8.
    small = sum(masks[:, 3 + down :: 8, 3 + along :: 8] for down in (0, 1) for along in (0, 1))
    inside = (np.asarray(small) > 0).astype(float)
    count = inside.sum((1, 2))[:, None]
    v = image_head(state, np.einsum("nhw,chw->nc", inside, dense) / (count + 1e-8))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    scale = min(math.exp(float(state["backbone.clip_model.logit_scale"])), 100.0)
    ends = np.cumsum([len(concepts) for concepts in classes.values()])[:-1]
    outer = np.stack([part.max(1) for part in np.split(scale * v @ text.T, ends, axis=1)], 1)

    words = {concept for concepts in TRAINED.values() for concept in concepts}
    exponent = np.array([0.8 if words.isdisjoint(concepts) else 0.4 for concepts in classes.values()])
    assert set(exponent) == {0.4, 0.8}
    a = exponent * ((count > 0) if on_valid_mask else 1)
    joined = np.log(softmax(logits[:, :-1]) ** (1 - a) * softmax(outer) ** a)
    return softmax(joined) * (1 - softmax(logits)[:, -1:]), count[:, 0] > 0


@pytest.fixture(scope="module")
def loaded(imported: tuple[State, Path]) -> Loaded:
    """The imported network with its score at stride 4, its ensemble, and the packed inputs of the tested classes."""
    folder = imported[1]
    stored = load_network(folder)
    assert stored.ensemble is not None and stored.ensemble.on_valid_mask
    network = VL4ADNetwork(stored.config.model_copy(update={"resize": "score"})).eval()
    network.load_state_dict(stored.state_dict())
    assert network.ensemble is not None
    encoder = create_encoder(f"open_clip:{MODEL}/test", folder / "text_encoder.safetensors")
    tested = compile_file(folder.parent / "tested.yaml", encoder, templates="vild")
    tensors = pack(tested, PromptLimits(), network.temperature)
    return network, network.ensemble, [torch.from_numpy(array.copy()) for array in tensors.graph_inputs().values()]


@pytest.mark.parametrize("on_valid_mask", [True, False])
def test_an_imported_network_classifies_as_the_reference(
    clip: Any, imported: tuple[State, Path], loaded: Loaded, on_valid_mask: bool
) -> None:
    """From the image to the score."""
    state, (network, ensemble, inputs) = imported[0], loaded
    ensemble.on_valid_mask = on_valid_mask
    coarse = torch.rand((1, 3, 8, 8), generator=torch.Generator().manual_seed(3))
    image = (F.interpolate(coarse, size=(64, 64)) * 255).permute(0, 2, 3, 1).to(torch.uint8)
    with torch.no_grad():
        _, weights = network.queries(image, *inputs)
        score = network(image, *inputs)

    mean = torch.tensor([122.7709383, 116.7460125, 104.09373615])
    std = torch.tensor([68.5005327, 66.6321579, 70.32316305])
    features = image_tower(state, ((image[0].float() - mean) / std).permute(2, 0, 1))
    text = text_rows(clip, [concept for concepts in TESTED.values() for concept in concepts])
    outputs = expected_outputs(state, features, text, [len(concepts) for concepts in TESTED.values()], HEADS)
    masks, logits = (outputs[name][0].astype(float) for name in ("pred_masks", "pred_logits"))
    dense = features[-1].double().numpy()
    expected, _ = classify(state, masks, logits, dense, text.double().numpy(), TESTED, on_valid_mask)
    support = np.einsum("nk,nhw->khw", expected, 1 / (1 + np.exp(-masks)))
    assert expected.std() > 1e-3
    np.testing.assert_allclose(weights[0, :, : len(TESTED)], expected, atol=1e-4)
    np.testing.assert_allclose(score[0], -support.max(0), atol=1e-4 * HEAD.num_queries)


@pytest.mark.parametrize("on_valid_mask", [True, False])
def test_small_masks_are_classified_as_the_reference_does(
    clip: Any, imported: tuple[State, Path], loaded: Loaded, on_valid_mask: bool
) -> None:
    """Masks of every size, those without a pixel at stride 32 among them."""
    state, (network, ensemble, inputs) = imported[0], loaded
    ensemble.on_valid_mask = on_valid_mask
    rng = np.random.default_rng(4)
    masks = rng.uniform(-9, -4, size=(12, 16, 24))
    for mask, side in zip(masks, (0, 1, 1, 2, 2, 3, 4, 6, 8, 12, 16, 24), strict=True):
        top, left = rng.integers(0, 17 - min(side, 16)), rng.integers(0, 25 - side)
        mask[top : top + side, left : left + side] += 12
    v, void = rng.normal(size=(12, DIM)), rng.uniform(-1, 1, size=12)
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    dense = rng.normal(size=(768, 2, 3))
    given = [torch.from_numpy(array).float()[None] for array in (masks, v, void, dense)]
    assert isinstance(network.backbone, ClipBackbone)
    with torch.no_grad():
        weights = ensemble(Prediction(*given[:3]), network.backbone, given[3], *inputs)

    text = text_rows(clip, [concept for concepts in TESTED.values() for concept in concepts]).double().numpy()
    ends = np.cumsum([len(concepts) for concepts in TESTED.values()])[:-1]
    cosines = [part.max(1) for part in np.split(v @ text.T, ends, axis=1)]
    logits = np.stack([*cosines, void], 1) / network.temperature
    expected, valid = classify(state, masks, logits, dense, text, TESTED, on_valid_mask)
    assert 2 < valid.sum() < len(valid) - 2, "both kinds of masks are needed"
    np.testing.assert_allclose(weights[0, :, : len(TESTED)], expected, atol=1e-4)
    others, _ = classify(state, masks, logits, dense, text, TESTED, not on_valid_mask)
    assert abs(expected - others)[~valid].max() > 0.01
    np.testing.assert_allclose(expected[valid], others[valid])
