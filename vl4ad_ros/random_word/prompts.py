"""Training prompts: states and templates of a family with random words inserted, all drawn from one seed."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import check_regular
from vl4ad_ros.io.resources import config_file
from vl4ad_ros.random_word.settings import BUILT_IN, PromptFamily, WordSettings

NORMAL, ANOMALOUS = 0, 1


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
    """Return the dictionary without the family's own words, sorted and distinct."""
    path = config_file("random_word/words.txt") if settings.dictionary == BUILT_IN else Path(settings.dictionary)
    check_regular(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Vl4adError(f"{path}: the dictionary cannot be read ({error}).") from error
    words = {word.lower() for line in lines if not line.startswith("#") for word in line.split()}
    kept = tuple(sorted(word for word in words - family.state_words() if "{" not in word and "}" not in word))
    if len(kept) < 10:
        raise Vl4adError(f"{path}: {len(kept)} words remain without the family's own; at least 10 are needed.")
    return kept


def split(
    family: PromptFamily, words: Sequence[str], held_out: float, rng: np.random.Generator
) -> tuple[Material, Material]:
    """Divide templates, states and words into a training part and, of a share in (0, 1), a held-out part."""

    def part(items: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        count = min(max(round(held_out * len(items)), 1), len(items) - 1)
        chosen = set(rng.choice(len(items), size=count, replace=False).tolist())
        kept = tuple(item for index, item in enumerate(items) if index not in chosen)
        return kept, tuple(item for index, item in enumerate(items) if index in chosen)

    parts = [part(items) for items in (family.templates, family.normal, family.anomalous, words)]
    train, held = zip(*parts, strict=True)
    return Material(family, *train), Material(family, *held)


def mix(train: Material, held: Material) -> dict[str, Material]:
    """Return the validation materials: `words`, `states` or `templates` held out alone, and `all` at once."""
    return {
        "words": replace(train, words=held.words),
        "states": replace(train, normal=held.normal, anomalous=held.anomalous),
        "templates": replace(train, templates=held.templates),
        "all": held,
    }


def random_words(words: Sequence[str], settings: WordSettings, rng: np.random.Generator) -> str:
    """Return `least` to `most` random words, joined by blanks."""
    drawn = []
    for _ in range(int(rng.integers(settings.min_words, settings.max_words + 1))):
        if rng.random() < settings.letters:
            length = int(rng.integers(settings.shortest, settings.longest + 1))
            drawn.append("".join(rng.choice(list(string.ascii_lowercase), size=length)))
        else:
            drawn.append(words[int(rng.integers(len(words)))])
    return " ".join(drawn)


def generate(material: Material, settings: WordSettings, per_label: int, rng: np.random.Generator) -> Prompts:
    """Generate prompts, as many normal as anomalous ones, alternating; the same state of `rng` gives the same."""
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
