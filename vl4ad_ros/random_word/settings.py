"""Prompt families (`config/random_word/*.yaml`) and settings of trainings (`config/random_word/train/*.yaml`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from vl4ad_ros.io.checked import Checked, read_yaml, validate
from vl4ad_ros.io.resources import yaml_file
from vl4ad_ros.prompts.encoders import MINILM_ID
from vl4ad_ros.runtime.random_word_network import GRAPH_HIDDEN

SLOT = "{}"
BUILT_IN = "built-in"


def _slots(kind: str, needed: bool) -> Callable[[list[str]], list[str]]:
    """Return a check of distinct texts with one slot, or at most one."""

    def check(texts: list[str]) -> list[str]:
        for text in texts:
            bare = text.replace(SLOT, "")
            if text.count(SLOT) > 1 or "{" in bare or (needed and bare == text) or not (needed or bare.strip()):
                want = (
                    "exactly one {} for the state" if needed else "words of its own and at most one {} for random words"
                )
                raise ValueError(f"{kind} '{text}' needs {want}")
            if texts.count(text) > 1:
                raise ValueError(f"{kind} '{text}' is given twice")
        return texts

    return check


Templates = Annotated[list[str], Field(min_length=2), AfterValidator(_slots("template", True))]
States = Annotated[list[str], Field(min_length=2), AfterValidator(_slots("state", False))]


class PromptFamily(Checked):
    """States and templates of one kind of scene."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_\-]*$")
    description: str = ""
    subject: str = ""  # fills a state's slot where no random word is drawn; may be empty
    templates: Templates  # texts with one `{}` for the state
    normal: States  # normal states, each with at most one `{}` for the random words
    anomalous: States  # anomalous states, likewise

    @model_validator(mode="after")
    def _disjoint(self) -> PromptFamily:
        both = sorted(set(self.normal) & set(self.anomalous))
        if both:
            raise ValueError(f"state '{both[0]}' is both normal and anomalous")
        return self

    def state_words(self) -> set[str]:
        """Return every word of the states and templates, in lower case: random words avoid them."""
        texts = (*self.templates, *self.normal, *self.anomalous, self.subject)
        return {word for text in texts for word in re.findall(r"[a-z]+", text.lower())}

    def prompt(self, template: str, state: str, words: str) -> str:
        """Return the text of one prompt; empty slots leave no double blanks."""
        return " ".join(template.replace(SLOT, state).replace(SLOT, words or self.subject).split())


class WordSettings(Checked):
    """The random words. Every value is our choice: the paper's own recipe is unknown to us."""

    min_words: int = Field(default=1, ge=0)  # fewest words in a prompt
    max_words: int = Field(default=4, ge=0, le=32)  # most words in a prompt; 0 switches random words off
    # Share of words that are random letter strings; the others come from the dictionary.
    letters: float = Field(default=0.3, ge=0, le=1)
    shortest: int = Field(default=3, ge=1)  # letters of the shortest letter string
    longest: int = Field(default=9, le=32)  # letters of the longest letter string
    dictionary: str = BUILT_IN  # `built-in` (about 700 everyday nouns), or a text file of words
    # `both`: words in normal and in anomalous prompts, so that they carry no label (the paper's idea). `anomalous`: in
    # anomalous prompts only, so that every unknown word counts as anomalous (our variant).
    labels: Literal["both", "anomalous"] = "both"

    @model_validator(mode="after")
    def _ordered(self) -> WordSettings:
        if self.min_words > self.max_words or self.shortest > self.longest:
            raise ValueError("expected min_words <= max_words and shortest <= longest")
        return self


class TrainSettings(Checked):
    """One training. Every value is our choice; the paper's are unknown to us."""

    family: str = "road"  # prompt family: name or YAML file
    text_encoder: str = MINILM_ID  # id of the text encoder
    seed: int = Field(default=0, ge=0)  # of the split, the prompts and the training
    samples: int = Field(default=2000, ge=1)  # training prompts of each label
    validation_samples: int = Field(default=250, ge=1)  # prompts of each label in each validation set
    # Share of the words, states and templates that only validation sees.
    held_out: float = Field(default=0.25, gt=0, lt=1)
    words: WordSettings = WordSettings()  # the random words
    hidden: int = Field(default=64, ge=1, le=GRAPH_HIDDEN)  # units of the hidden layer
    # Scale of the first layer's start weights, 1 = PyTorch's: they stay along directions in which prompts do not vary,
    # and visual embeddings do.
    start: float = Field(default=1.0, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)  # of the hidden layer
    # Length of the Gaussian vector added to a unit embedding before it is normalised again; it makes the cloud of texts
    # wider, towards that of the images.
    noise: float = Field(default=0.3, ge=0)
    # Keeps probabilities off 0 and 1, so that the ranking of maps stays.
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    rate: float = Field(default=2e-3, gt=0)  # learning rate of AdamW
    weight_decay: float = Field(default=1e-2, ge=0)  # of AdamW
    batch: int = Field(default=256, ge=1)  # prompts per step
    epochs: int = Field(default=60, ge=1)  # most passes over the training prompts
    patience: int = Field(default=6, ge=1)  # passes without a lower validation loss after which training stops
    # Whether the final network also learns from the validation prompts, after they have ended the training.
    refit: bool = True


def load_family(name_or_path: str | Path) -> PromptFamily:
    """Read a family from a YAML file, or the shipped one of that name."""
    path = yaml_file("config/random_word", "prompt family", name_or_path)
    return validate(PromptFamily, read_yaml(path), path)


def load_settings(name_or_path: str | Path) -> TrainSettings:
    """Read a training's settings from a YAML file, or the shipped ones of that name."""
    path = yaml_file("config/random_word/train", "random-word settings file", name_or_path)
    return validate(TrainSettings, read_yaml(path) or {}, path)
