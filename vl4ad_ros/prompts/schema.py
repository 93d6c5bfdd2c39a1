"""Prompt sets in YAML: classes with their concepts, superclasses, out-of-distribution concepts, templates."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from vl4ad_ros.io.checked import Checked, parse_yaml, read_yaml, validate

VILD: tuple[str, ...] = (
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    *(
        text.format(size, "{}")
        for size in ("small", "medium", "large")
        for text in ("a photo of a {} {}.", "This is a photo of a {} {}.", "There is a {} {} in the scene.")
    ),
)
"""The 14 ViLD templates that FC-CLIP averages (github.com/bytedance/fc-clip, see docs/prompts.md)."""

# A sentence encoder needs no "a photo of" around the word; `road` is our choice for road scenes.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "vild": VILD,
    "plain": ("{}",),
    "road": ("{}", "a photo of a {}", "a {} on the road", "a road scene with a {}"),
}
"""Prompt templates by name; `{}` stands for the concept."""


def _different(texts: list[str]) -> list[str]:
    duplicates = [text for text, count in Counter(texts).items() if count > 1]
    if duplicates:
        raise ValueError(f"duplicate concept '{duplicates[0]}'")
    return texts


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
_NAME = re.compile(r"[a-z0-9][a-z0-9_\-]*")


class PromptSet(Checked):
    """A prompt set as a user writes it."""

    name: Text
    description: str = ""
    # Name of a template list (`vild`, `plain`, `road`) or a list of texts with one `{}` each.
    templates: str | list[str] = "plain"
    temperature: float | None = Field(default=None, gt=0)  # temperature T of Eq. 1, > 0. None takes the model's own.
    # In-distribution classes: name -> concepts (synonyms, plurals, parts). The class's cosine is the largest of its
    # concepts' (max-logit prompt ensembling).
    classes: dict[Text, Annotated[list[Text], Field(min_length=1), AfterValidator(_different)]] = Field(min_length=1)
    # Superclass name -> member classes. Merged, they are one class with the members' concepts. Classes that no
    # superclass names stay as they are.
    superclasses: dict[Text, Annotated[list[Text], Field(min_length=1)]] = Field(default_factory=dict)
    # Out-of-distribution concepts. Each is a column of the softmax that the score leaves out.
    ood: Annotated[list[Text], AfterValidator(_different)] = Field(default_factory=list)

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"'{name}' is no name (lower case letters, digits, _ and -)")
        return name

    @field_validator("templates")
    @classmethod
    def _known_templates(cls, templates: str | list[str]) -> str | list[str]:
        if isinstance(templates, str):
            if templates not in TEMPLATES:
                raise ValueError(f"expected one of {sorted(TEMPLATES)} or a list of texts, got '{templates}'")
            return templates
        if not templates:
            raise ValueError("the list of templates is empty")
        for template in templates:
            if template.count("{}") != 1 or "{" in template.replace("{}", ""):
                raise ValueError(f"template '{template}' needs exactly one {{}} for the concept")
        return templates

    @model_validator(mode="after")
    def _superclasses(self) -> PromptSet:
        owner: dict[str, str] = {}
        for superclass, members in self.superclasses.items():
            for member in members:
                if member not in self.classes:
                    raise ValueError(f"superclass '{superclass}' names the unknown class '{member}'")
                if member in owner:
                    raise ValueError(
                        f"class '{member}' is in the superclass '{owner[member]}' and again in '{superclass}'"
                    )
                owner[member] = superclass
            if superclass in self.classes and superclass not in members:
                raise ValueError(f"superclass '{superclass}' has the name of a class that is not its member")
        column_of: dict[str, str] = {}
        for column, concepts in self.columns().items():
            for concept in concepts:
                if concept in column_of:
                    raise ValueError(f"duplicate concept '{concept}' in '{column_of[concept]}' and '{column}'")
                column_of[concept] = column
        for concept in self.ood:
            if concept in column_of or concept in self.columns():
                raise ValueError(f"ood concept '{concept}' is an in-distribution concept or class, too")
        return self

    def columns(self) -> dict[str, list[str]]:
        """Return the K in-distribution columns after class merging: name -> concepts, in the order of the classes.

        A superclass stands where its first member stood; its concepts are its members', without repetitions.
        """
        return {
            column: list(dict.fromkeys(concept for name in names for concept in self.classes[name]))
            for column, names in self.members().items()
        }

    def members(self) -> dict[str, list[str]]:
        """Return the classes behind each in-distribution column, in the order of `columns`."""
        owner = {member: name for name, members in self.superclasses.items() for member in members}
        members: dict[str, list[str]] = {}
        for name in self.classes:
            members.setdefault(owner.get(name, name), []).append(name)
        return members

    def template_texts(self) -> tuple[str, ...]:
        """Return the templates as texts."""
        return TEMPLATES[self.templates] if isinstance(self.templates, str) else tuple(self.templates)


def load_prompt_set(path: str | Path) -> PromptSet:
    """Read and check a prompt set's YAML file."""
    return validate(PromptSet, read_yaml(path), path)


def parse_prompt_set(text: str, source: str = "prompt set") -> PromptSet:
    """Check a prompt set's YAML text; `source` names it in errors, which are those of `load_prompt_set`."""
    return validate(PromptSet, parse_yaml(text, source), source)
