"""The YAML form of a prompt set: classes with their concepts, superclasses, out-of-distribution concepts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator, model_validator

from vl4ad_ros.io.checked import Checked, read_yaml, validate
from vl4ad_ros.prompts.templates import TEMPLATES

Text = Annotated[str, StringConstraints(strip_whitespace=True)]
_NAME = re.compile(r"[a-z0-9][a-z0-9_\-]*")


class PromptSet(Checked):
    """A prompt set as a user writes it.

    Attributes:
        name: Name of the set: lower case letters, digits, `_` and `-`.
        description: One line for people.
        templates: Name of a template list (`vild`, `plain`, `road`) or a list of texts with one `{}` each.
        temperature: Temperature T of Eq. 1, > 0. None takes the model's own.
        classes: In-distribution classes: name -> concepts (synonyms, plurals, parts). The class's cosine is the largest
            of its concepts' (max-logit prompt ensembling).
        superclasses: Superclass name -> member classes. Merged, they are one class with the members' concepts. Classes
            that no superclass names stay as they are.
        ood: Out-of-distribution concepts. Each is a column of the softmax that the score leaves out.
    """

    name: Text
    description: str = ""
    templates: str | list[str] = "plain"
    temperature: float | None = Field(default=None, gt=0)
    classes: dict[Text, list[Text]] = Field(min_length=1)
    superclasses: dict[Text, list[Text]] = Field(default_factory=dict)
    ood: list[Text] = Field(default_factory=list)

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

    @field_validator("classes")
    @classmethod
    def _concepts(cls, classes: dict[str, list[str]]) -> dict[str, list[str]]:
        for name, concepts in classes.items():
            if not name:
                raise ValueError("a class has an empty name")
            if not concepts:
                raise ValueError(f"class '{name}' has no concept")
            _texts(concepts, f"class '{name}'")
        return classes

    @field_validator("ood")
    @classmethod
    def _ood(cls, ood: list[str]) -> list[str]:
        _texts(ood, "ood")
        return ood

    @model_validator(mode="after")
    def _superclasses(self) -> PromptSet:
        owner: dict[str, str] = {}
        for superclass, members in self.superclasses.items():
            if not members:
                raise ValueError(f"superclass '{superclass}' has no member")
            for member in members:
                if member not in self.classes:
                    raise ValueError(f"superclass '{superclass}' names the unknown class '{member}'")
                if member in owner:
                    raise ValueError(
                        f"class '{member}' is in the superclass '{owner[member]}' and again in '{superclass}'"
                    )
                owner[member] = superclass
        for superclass in self.superclasses:
            if superclass in self.classes and owner.get(superclass) != superclass:
                raise ValueError(f"superclass '{superclass}' has the name of a class that is not its member")
        seen: dict[str, str] = {}
        for column, concepts in self.columns().items():
            for concept in dict.fromkeys(concepts):
                if concept in seen and seen[concept] != column:
                    raise ValueError(f"duplicate concept '{concept}' in '{seen[concept]}' and '{column}'")
                seen[concept] = column
        for concept in self.ood:
            if concept in seen or concept in self.columns():
                raise ValueError(f"ood concept '{concept}' is an in-distribution concept or class, too")
        return self

    def columns(self) -> dict[str, list[str]]:
        """Return the K in-distribution columns after class merging: name -> concepts, in the order of the classes.

        A superclass stands where its first member stood; its concepts are its members', without repetitions (two
        members may share a concept).
        """
        owner = {member: name for name, members in self.superclasses.items() for member in members}
        columns: dict[str, list[str]] = {}
        for name, concepts in self.classes.items():
            column = columns.setdefault(owner.get(name, name), [])
            column.extend(concept for concept in concepts if concept not in column)
        return columns

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


def _texts(concepts: Iterable[str], where: str) -> None:
    seen: set[str] = set()
    for concept in concepts:
        if not concept:
            raise ValueError(f"{where} has an empty concept")
        if concept in seen:
            raise ValueError(f"{where} has the duplicate concept '{concept}'")
        seen.add(concept)


def load_prompt_set(path: str | Path) -> PromptSet:
    """Read and check a prompt set's YAML file.

    Raises:
        Vl4adError: One sentence that names the file, the place and what is expected there.
    """
    return validate(PromptSet, read_yaml(path), path)
