"""Prompt families: the state words and templates from which training prompts are made (`config/random_word/*.yaml`)."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from vl4ad_ros.io.checked import Checked, read_yaml, validate
from vl4ad_ros.io.resources import yaml_file

SLOT = "{}"


class PromptFamily(Checked):
    """States and templates of one kind of scene.

    Attributes:
        name: Name of the family.
        description: One line for people.
        subject: Fills a state's slot where no random word is drawn; may be empty.
        templates: Texts with one `{}` for the state.
        normal: Normal states, each with at most one `{}` for the random words.
        anomalous: Anomalous states, likewise.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_\-]*$")
    description: str = ""
    subject: str = ""
    templates: list[str] = Field(min_length=2)
    normal: list[str] = Field(min_length=2)
    anomalous: list[str] = Field(min_length=2)

    @field_validator("templates")
    @classmethod
    def _one_slot(cls, templates: list[str]) -> list[str]:
        for text in templates:
            if text.count(SLOT) != 1 or "{" in text.replace(SLOT, ""):
                raise ValueError(f"template '{text}' needs exactly one {{}} for the state")
        return _distinct(templates)

    @field_validator("normal", "anomalous")
    @classmethod
    def _at_most_one_slot(cls, states: list[str]) -> list[str]:
        for text in states:
            if text.count(SLOT) > 1 or "{" in text.replace(SLOT, "") or not text.replace(SLOT, "").strip():
                raise ValueError(f"state '{text}' needs words of its own and at most one {{}} for the random words")
        return _distinct(states)

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


def _distinct(texts: list[str]) -> list[str]:
    if len(set(texts)) < len(texts):
        raise ValueError(f"'{next(t for t in texts if texts.count(t) > 1)}' is given twice")
    return texts


def load_family(name_or_path: str | Path) -> PromptFamily:
    """Read a family from a YAML file, or the shipped one of that name.

    Raises:
        Vl4adError: If there is none, or the file breaks the schema.
    """
    path = yaml_file("config/random_word", "prompt family", name_or_path)
    return validate(PromptFamily, read_yaml(path), path)
