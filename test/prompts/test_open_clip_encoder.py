"""The text encoders for mask networks, and what real CLIP embeddings do in the scores."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from formulas import anomaly_score
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.score_reference import column_cosines
from vl4ad_ros.prompts.compile import assemble, compile_prompt_set
from vl4ad_ros.prompts.encoders import create_encoder
from vl4ad_ros.prompts.schema import PromptSet
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet

RANDOM = "open_clip:ViT-S-32-alt/random"
SOUP = "open_clip:convnext_large_d_320/laion2b_s29b_b131k_ft_soup"
CITY_NAMES = (
    "road sidewalk building wall fence pole traffic-light traffic-sign vegetation terrain sky person rider car truck "
    "bus train motorcycle bicycle"
)
VOC_NAMES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep "
    "sofa train tvmonitor"
)
CITY, VOC = CITY_NAMES.split(), VOC_NAMES.split()


def test_a_random_tower_is_reproducible_and_embeds_units() -> None:
    rows = create_encoder(RANDOM).encode(["a cow", "a dog"])
    assert rows.shape == (2, 256) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert not np.allclose(rows[0], rows[1], atol=1e-3)
    np.testing.assert_array_equal(create_encoder(RANDOM).encode(["a cow"]), rows[:1])
    assert not np.allclose(create_encoder(RANDOM + "-7").encode(["a cow"]), rows[:1], atol=1e-3)


def test_templates_are_averaged_as_in_fcclip() -> None:
    encoder = create_encoder(RANDOM)
    compiled = compile_prompt_set(PromptSet(name="s", classes={"car": ["car", "cars"]}, templates="vild"), encoder)
    texts = [f"a photo of a {size}cars." for size in ("", "small ", "medium ", "large ")]
    texts += [f"This is a photo of a {size}cars." for size in ("small ", "medium ", "large ")]
    texts += [f"There is a {size}cars in the scene." for size in ("small ", "medium ", "large ")]
    texts += ["This is a photo of a cars", "There is a cars in the scene", "There is the cars in the scene"]
    texts += ["a photo of a cars in the scene"]
    mean = encoder.encode(texts).mean(axis=0)
    np.testing.assert_allclose(compiled.embeddings[1], mean / np.linalg.norm(mean), atol=1e-5)


def test_missing_weights_say_what_to_download_and_where_to_put_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Vl4adError) as caught:
        create_encoder(SOUP)
    for part in (
        "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup",
        "open_clip_model.safetensors",
        "--weights",
    ):
        assert part in str(caught.value)
    with pytest.raises(Vl4adError, match=r"There is no weights file .*nowhere\.bin"):
        create_encoder(SOUP, tmp_path / "nowhere.bin")
    (tmp_path / "page.bin").write_text("<html>not found</html>")
    with pytest.raises(Vl4adError, match=r"page\.bin: cannot be read as weights"):
        create_encoder("open_clip:ViT-S-32-alt/mine", tmp_path / "page.bin")


@pytest.mark.parametrize(
    "content",
    [[torch.ones(2)], torch.ones(2), {}, {"state_dict": [1]}, {"a": 1}],
    ids=str,
)
def test_a_weights_file_without_weights_is_one_sentence(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "list.pth")
    with pytest.raises(Vl4adError, match=r"list\.pth: cannot be read as weights of open_clip's 'ViT-S-32-alt' \(\S"):
        create_encoder("open_clip:ViT-S-32-alt/mine", tmp_path / "list.pth")


@pytest.mark.parametrize(
    ("encoder_id", "said"),
    [
        ("open_clip:convnext_larg/x", "convnext_large"),
        ("open_clip:convnext_large_d_320/laion5b", "laion2b_s29b_b131k_ft_soup"),
        ("open_clip:ViT-S-32-alt", "MODEL/PRETRAINED"),
        ("open_clip:ViT-S-32-alt/random-x", "knows no weights 'random-x'"),
        ("classes:road|road", "different class names"),
        ("bert", "expected 'minilm"),
    ],
)
def test_wrong_ids_are_refused(encoder_id: str, said: str) -> None:
    with pytest.raises(Vl4adError, match=said):
        create_encoder(encoder_id)


def real(shared_dir: Path, name: str) -> NDArray[np.float32]:
    rows = np.load(shared_dir / "data" / "clip_text" / name).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@pytest.mark.parametrize(
    ("concept", "nearest"),
    [("cow", "person"), ("dog", "person"), ("horse", "rider"), ("motorbike", "motorcycle"), ("bus", "bus")],
)
def test_nearest_class_in_real_clip_space(shared_dir: Path, concept: str, nearest: str) -> None:
    cosines = real(shared_dir, "vitb16_voc.npy")[VOC.index(concept)] @ real(shared_dir, "vitb16_city.npy").T
    assert CITY[int(cosines.argmax())] == nearest
    # The same name is the same point; another word for the same thing is near, and still not the same.
    assert cosines.max() == pytest.approx({"bus": 1.0, "motorbike": 0.99}.get(concept, 0.89), abs=0.03)


def test_ood_columns_raise_the_score_of_what_they_name_and_of_nothing_else(shared_dir: Path) -> None:
    """A query whose visual embedding is the real embedding of a word, in the space of ViT-B/16."""
    city, voc = real(shared_dir, "vitb16_city.npy"), real(shared_dir, "vitb16_voc.npy")
    classes = {name: [name] for name in CITY}
    plain = assemble(PromptSet(name="city", classes=classes), city, "open_clip:ViT-B-16/openai", "0")
    animals = ["cow", "dog"]
    rows = np.concatenate([city, voc[[VOC.index(name) for name in animals]]])
    with_ood = assemble(PromptSet(name="ood", classes=classes, ood=animals), rows, "open_clip:ViT-B-16/openai", "0")

    def score(word: NDArray[np.float32], prompt_set: CompiledPromptSet) -> float:
        cosines = word[None] @ prompt_set.embeddings.T
        columns = column_cosines(cosines, prompt_set.concept_column, len(prompt_set.columns))
        return float(anomaly_score(np.ones((1, 1, 1)), columns, num_id=19, temperature=0.01)[0, 0])

    for name in animals:
        word = voc[VOC.index(name)]
        assert score(word, plain) < -0.25 and score(word, with_ood) > -0.01
    car = city[CITY.index("car")]
    assert score(car, with_ood) == pytest.approx(score(car, plain), abs=1e-3) and score(car, plain) < -0.99
    # Near-OOD: a horse is nobody's word here, and the animals' columns still help.
    horse = voc[VOC.index("horse")]
    assert score(horse, with_ood) > score(horse, plain) + 0.2
