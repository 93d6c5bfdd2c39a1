"""Prompt sets in YAML: what is accepted, merged, and refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.resources import prompt_yaml, prompt_yamls
from vl4ad_ros.prompts.schema import VILD, load_prompt_set


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "set.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_shipped_sets_load_under_their_own_name() -> None:
    assert {"cityscapes", "cityscapes_superclasses", "cityscapes_ood", "camvid", "coco_panoptic"} <= set(prompt_yamls())
    for name, path in prompt_yamls().items():
        assert load_prompt_set(path).name == name


def test_shipped_cityscapes_has_the_19_classes_in_train_id_order() -> None:
    names = list(load_prompt_set(prompt_yaml("cityscapes")).classes)
    assert len(names) == 19
    assert (names[0], names[10], names[13], names[18]) == ("road", "sky", "car", "bicycle")


def test_shipped_coco_has_the_133_panoptic_classes() -> None:
    coco = load_prompt_set(prompt_yaml("coco_panoptic"))
    assert (len(coco.classes), coco.template_texts()) == (133, VILD)


def test_merging_keeps_every_concept_once_and_the_order_of_the_first_member() -> None:
    plain = load_prompt_set(prompt_yaml("cityscapes"))
    merged = load_prompt_set(prompt_yaml("cityscapes_superclasses"))
    assert list(merged.columns()) == ["flat", "construction", "object", "nature", "sky", "human", "vehicle"]
    assert sorted(c for cs in merged.columns().values() for c in cs) == sorted(
        c for cs in plain.columns().values() for c in cs
    )
    assert merged.members()["human"] == ["person", "rider"]
    assert merged.members()["sky"] == ["sky"]


def test_shared_concept_of_merged_members_appears_once(tmp_path: Path) -> None:
    path = write(tmp_path, "name: x\nclasses: {a: [one, two], b: [two]}\nsuperclasses: {ab: [a, b]}\n")
    assert load_prompt_set(path).columns() == {"ab": ["one", "two"]}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: x\nclases: {a: [b]}\n", "unknown key 'clases' (did you mean 'classes'?)"),
        ("name: x\n", "'classes' is missing"),
        ("name: x\nclasses: {}\n", "classes"),
        ("name: x\nclasses: {a: []}\n", "classes.a: List should have at least 1 item"),
        ("name: x\nclasses: {a: ['  ']}\n", "classes.a.0: String should have at least 1 character"),
        ("name: x\nclasses: {a: [b, b]}\n", "classes.a: duplicate concept 'b'"),
        ("name: x\nclasses: {a: [b], c: [b]}\n", "duplicate concept 'b' in 'a' and 'c'"),
        ("name: x\nclasses:\n  a: [b]\n  a: [c]\n", "line 4: duplicate name 'a'"),
        ("name: x\nclasses: {a: [b]}\ntemperature: 0\n", "temperature: Input should be greater than 0 (got 0)"),
        ("name: x\nclasses: {a: [b]}\ntemperature: .nan\n", "temperature"),
        (
            "name: x\nclasses: {a: [b], c: [d]}\nsuperclasses: {s: [a], t: [a, c]}\n",
            "class 'a' is in the superclass 's' and again in 't'",
        ),
        ("name: x\nclasses: {a: [b]}\nsuperclasses: {s: [z]}\n", "names the unknown class 'z'"),
        (
            "name: x\nclasses: {a: [b], c: [d]}\nsuperclasses: {c: [a]}\n",
            "has the name of a class that is not its member",
        ),
        ("name: x\nclasses: {a: [b]}\nood: [b]\n", "ood concept 'b' is an in-distribution concept"),
        ("name: x\nclasses: {a: [b]}\nood: [c, c]\n", "ood: duplicate concept 'c'"),
        ("name: x\nclasses: {a: [b]}\ntemplates: vidl\n", "expected one of ['plain', 'road', 'vild']"),
        ("name: x\nclasses: {a: [b]}\ntemplates: ['no slot']\n", "needs exactly one {}"),
        ("name: X y\nclasses: {a: [b]}\n", "'X y' is no name"),
        ("[1, 2]\n", "expected a mapping"),
        ("name: x\nclasses: {yes: [b]}\n", "is not text (quote it)"),
        ("name: [x\n", "not valid YAML"),
    ],
)
def test_refused_with_a_sentence_that_names_the_file(tmp_path: Path, text: str, sentence: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(Vl4adError) as caught:
        load_prompt_set(path)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_set_lists_the_shipped_ones() -> None:
    with pytest.raises(Vl4adError, match=r"There is no prompt set 'nope': .*'cityscapes'"):
        prompt_yaml("nope")
