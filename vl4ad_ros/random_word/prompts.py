"""Training prompts: states and templates of a family with random words inserted, all drawn from one seed."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from vl4ad_ros.io.checked import Checked
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.resources import config_file
from vl4ad_ros.random_word.family import PromptFamily

NORMAL, ANOMALOUS = 0, 1
BUILT_IN = "built-in"


class WordSettings(Checked):
    """The random words. Every value is our choice: the paper's own recipe is unknown to us.

    Attributes:
        least: Fewest words in a prompt.
        most: Most words in a prompt; 0 switches random words off.
        letters: Share of words that are random letter strings; the others come from the dictionary.
        shortest: Letters of the shortest letter string.
        longest: Letters of the longest letter string.
        dictionary: `built-in` (about 700 everyday nouns), or a text file of words.
        labels: `both`: words in normal and in anomalous prompts, so that they carry no label (the paper's idea).
            `anomalous`: in anomalous prompts only, so that every unknown word counts as anomalous (our variant).
    """

    least: int = Field(default=1, ge=0)
    most: int = Field(default=4, ge=0, le=32)
    letters: float = Field(default=0.3, ge=0, le=1)
    shortest: int = Field(default=3, ge=1)
    longest: int = Field(default=9, le=32)
    dictionary: str = BUILT_IN
    labels: Literal["both", "anomalous"] = "both"

    @model_validator(mode="after")
    def _ordered(self) -> WordSettings:
        if self.least > self.most or self.shortest > self.longest:
            raise ValueError("expected least <= most and shortest <= longest")
        return self


@dataclass(frozen=True)
class Material:
    """The texts of a family and the dictionary words, or the part of them that one split may use."""

    family: PromptFamily
    templates: tuple[str, ...]
    normal: tuple[str, ...]
    anomalous: tuple[str, ...]
    words: tuple[str, ...]


@dataclass(frozen=True)
class Prompts:
    """Generated prompts: n texts and their labels int64 [n] (0 normal, 1 anomalous)."""

    texts: tuple[str, ...]
    labels: NDArray[np.int64]


def load_words(settings: WordSettings, family: PromptFamily) -> tuple[str, ...]:
    """Return the dictionary without the family's own words, sorted and distinct.

    Raises:
        Vl4adError: If the file cannot be read or leaves fewer than 10 words.
    """
    path = config_file("random_word/words.txt") if settings.dictionary == BUILT_IN else Path(settings.dictionary)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Vl4adError(f"{path}: the dictionary cannot be read ({error}).") from error
    taken = family.state_words()
    words = {word.lower() for line in lines if not line.startswith("#") for word in line.split()}
    kept = tuple(sorted(word for word in words - taken if "{" not in word and "}" not in word))
    if len(kept) < 10:
        raise Vl4adError(f"{path}: {len(kept)} words remain without the family's own; at least 10 are needed.")
    return kept


def split(
    family: PromptFamily, words: Sequence[str], held_out: float, rng: np.random.Generator
) -> tuple[Material, Material]:
    """Divide templates, states and words into a training and a held-out half that share none of them.

    Args:
        family: The family.
        words: Dictionary words.
        held_out: Share to hold out of each list, in (0, 1); at least one stays on either side.
        rng: Source of the choice.
    """

    def part(items: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        count = min(max(round(held_out * len(items)), 1), len(items) - 1)
        chosen = set(rng.choice(len(items), size=count, replace=False).tolist())
        kept = tuple(item for index, item in enumerate(items) if index not in chosen)
        return kept, tuple(item for index, item in enumerate(items) if index in chosen)

    parts = [part(items) for items in (family.templates, family.normal, family.anomalous, words)]
    train, held = zip(*parts, strict=True)
    return Material(family, *train), Material(family, *held)


def mix(train: Material, held: Material) -> dict[str, Material]:
    """Return the validation materials: one list held out at a time, and all at once.

    Keys: `words`, `states`, `templates`, `all`.
    """
    return {
        "words": replace(train, words=held.words),
        "states": replace(train, normal=held.normal, anomalous=held.anomalous),
        "templates": replace(train, templates=held.templates),
        "all": held,
    }


def random_words(words: Sequence[str], settings: WordSettings, rng: np.random.Generator) -> str:
    """Return `least` to `most` random words, joined by blanks."""
    drawn = []
    for _ in range(int(rng.integers(settings.least, settings.most + 1))):
        if rng.random() < settings.letters:
            length = int(rng.integers(settings.shortest, settings.longest + 1))
            drawn.append("".join(rng.choice(list(string.ascii_lowercase), size=length)))
        else:
            drawn.append(words[int(rng.integers(len(words)))])
    return " ".join(drawn)


def generate(material: Material, settings: WordSettings, per_label: int, rng: np.random.Generator) -> Prompts:
    """Generate prompts, as many normal as anomalous ones, alternating.

    Args:
        material: Texts and words to draw from.
        settings: The random words.
        per_label: Prompts of each label.
        rng: Source of every choice; the same state gives the same prompts.
    """
    texts = []
    for _ in range(per_label):
        for label, states in ((NORMAL, material.normal), (ANOMALOUS, material.anomalous)):
            state = states[int(rng.integers(len(states)))]
            template = material.templates[int(rng.integers(len(material.templates)))]
            wanted = settings.labels == "both" or label == ANOMALOUS
            words = random_words(material.words, settings, rng) if wanted else ""
            texts.append(material.family.prompt(template, state, words))
    return Prompts(tuple(texts), np.tile(np.asarray([NORMAL, ANOMALOUS]), per_label))


def every_prompt(family: PromptFamily) -> Prompts:
    """Return each state in each template without random words, as prompt-guided cosine scoring averages them."""
    labels = [NORMAL] * len(family.normal) + [ANOMALOUS] * len(family.anomalous)
    states = [*family.normal, *family.anomalous]
    texts = tuple(family.prompt(template, state, "") for state in states for template in family.templates)
    return Prompts(texts, np.repeat(labels, len(family.templates)))
