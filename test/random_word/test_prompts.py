from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.random_word.prompts import (
    every_prompt,
    generate,
    load_words,
    mix,
    random_words,
    split,
)
from vl4ad_ros.random_word.settings import PromptFamily, WordSettings, load_family, load_settings


def family(**changes: object) -> PromptFamily:
    fields: dict[str, object] = {
        "name": "small",
        "subject": "object",
        "templates": ["{}", "a photo of a {}"],
        "normal": ["flawless {}", "clear road"],
        "anomalous": ["{} with damage", "debris"],
    }
    return PromptFamily.model_validate({**fields, **changes})


def test_prompt_fills_slots_without_double_blanks() -> None:
    small = family()
    assert small.prompt("a photo of a {}", "{} with damage", "green xqz") == "a photo of a green xqz with damage"
    assert small.prompt("a photo of a {}", "flawless {}", "") == "a photo of a flawless object"
    assert small.prompt("{}", "debris", "green") == "debris"
    assert family(subject="").prompt("a photo of {} here", "a road {}", "") == "a photo of a road here"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"templates": ["{}", "no slot"]}, "exactly one"),
        ({"normal": ["{} and {}", "x"]}, "at most one"),
        ({"normal": ["{}", "x"]}, "words of its own"),
        ({"normal": ["x", "x"]}, "twice"),
        ({"normal": ["debris", "x"]}, "both normal and anomalous"),
    ],
)
def test_family_faults_are_named(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        family(**changes)


def test_shipped_families_and_settings_load() -> None:
    for name in ("road", "products"):
        assert load_family(name).name == name
        assert load_settings(name).family == name
    with pytest.raises(Vl4adError, match=r"expected a YAML file or one of \[.*'road'"):
        load_family("raod")
    with pytest.raises(Vl4adError, match="no random-word settings file 'raod'"):
        load_settings("raod")


def test_settings_name_the_near_key(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("words: {min_word: 2}\n")
    with pytest.raises(Vl4adError, match=r"s\.yaml: unknown key 'words.min_word' \(did you mean 'min_words'"):
        load_settings(path)
    path.write_text("words: {min_words: 5, max_words: 2}\n")
    with pytest.raises(Vl4adError, match="min_words"):
        load_settings(path)


def test_dictionary_leaves_out_the_states_words(tmp_path: Path) -> None:
    words = load_words(WordSettings(), family(normal=["flawless tiger {}", "clear road"]))
    assert len(words) > 500
    assert "tiger" not in words
    assert "zebra" in words
    (tmp_path / "w.txt").write_text("# comment words\nonly three words\n")
    with pytest.raises(Vl4adError, match="at least 10"):
        load_words(WordSettings(dictionary=str(tmp_path / "w.txt")), family())
    with pytest.raises(Vl4adError, match="cannot be read"):
        load_words(WordSettings(dictionary=str(tmp_path / "none.txt")), family())


def test_random_words_obey_their_settings() -> None:
    rng = np.random.default_rng(3)
    letters = WordSettings(min_words=2, max_words=3, letters=1, shortest=4, longest=5)
    drawn = [random_words(["oak"], letters, rng).split() for _ in range(200)]
    assert {len(words) for words in drawn} == {2, 3}
    assert {len(word) for words in drawn for word in words} == {4, 5}
    assert len({word for words in drawn for word in words}) > 400
    dictionary = WordSettings(min_words=1, max_words=1, letters=0)
    assert {random_words(["oak", "elm"], dictionary, rng) for _ in range(50)} == {"oak", "elm"}
    assert random_words(["oak"], WordSettings(min_words=0, max_words=0), rng) == ""


def test_split_holds_out_disjoint_parts_of_everything() -> None:
    road = load_family("road")
    words = load_words(WordSettings(), road)
    train, held = split(road, words, 0.25, np.random.default_rng(0))
    for field, whole in (("templates", road.templates), ("normal", road.normal), ("anomalous", road.anomalous)):
        kept, out = set(getattr(train, field)), set(getattr(held, field))
        assert kept.isdisjoint(out)
        assert kept | out == set(whole)
        assert len(out) == round(0.25 * len(whole))
    assert set(train.words).isdisjoint(held.words)
    sets = mix(train, held)
    assert sets["words"].words == held.words
    assert sets["words"].normal == train.normal
    assert sets["states"].anomalous == held.anomalous
    assert sets["states"].words == train.words
    assert sets["templates"].templates == held.templates
    other, _ = split(road, words, 0.25, np.random.default_rng(1))
    assert other.normal != train.normal


def test_words_in_anomalous_prompts_only() -> None:
    small = family()
    train, _ = split(small, load_words(WordSettings(), small), 0.5, np.random.default_rng(0))
    prompts = generate(train, WordSettings(labels="anomalous"), 50, np.random.default_rng(0))
    plain = {text for text, label in zip(prompts.texts, prompts.labels, strict=True) if label == 0}
    assert plain <= set(every_prompt(small).texts)
