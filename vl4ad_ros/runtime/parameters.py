"""How a setting is declared, and what it is as a ROS parameter.

A setting that is None is *unset*: the bundle, or the prompt set, has a value of its own. ROS has no None, so a value
stands for it (`unset`); on the command line and in a launch file such a setting is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

Value = bool | int | float | str | list[str]


class Settings(BaseModel):
    """Base of a group of settings: an immutable set of them that belongs together."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    prefix: ClassVar[str] = ""  # of the ROS parameters


def setting(
    default: Any,
    help: str,
    *,
    live: bool = False,
    at_start: bool = False,
    low: float | None = None,
    high: float | None = None,
    unset: Value | None = None,
    own: str = "",
) -> Any:
    """Declare a field of a group of settings; `help` says on every surface what it is.

    A `live` one acts on the next frame; a static one is read when the node is configured, or `at_start` of the process.
    `unset` stands for None among the ROS parameters, as does every number below `low`; `own` says whose value holds
    then.
    """
    extra: dict[str, Any] = {"help": help, "live": live, "at_start": at_start, "low": low, "high": high}
    text = f"{help.removesuffix('.')}; by default {own}." if own else help
    return Field(default, description=text, ge=low, le=high, json_schema_extra={**extra, "unset": unset, "own": own})


@dataclass(frozen=True)
class Parameter:
    """A setting as a ROS parameter."""

    name: str  # its ROS name
    default: Value  # its default; gives the type
    help: str
    live: bool  # whether a change acts on the next frame; a static one is read when the node is configured
    at_start: bool  # whether a static one is read only when the process starts
    low: float | None  # smallest value of a number
    high: float | None  # largest value of a number
    choices: tuple[str, ...]  # allowed texts; empty for any
    unset: Value | None  # the value that stands for None; None where there is none
    lowest_set: float | None  # smallest number that is a value of the setting; below it they stand for None
    own: str  # whose value holds where it is unset

    @property
    def description(self) -> str:
        """What it is, and what stands for unset."""
        if self.unset is None:
            return self.help
        stands = "empty" if self.unset == "" else f"below {self.lowest_set:g}" if self.low != self.lowest_set else "0"
        return f"{self.help.removesuffix('.')}; {stands}: {self.own}."

    @property
    def full_description(self) -> str:
        """The description with what applies to it: choices, and when a change acts."""
        read = "when the process starts" if self.at_start else "when the node is configured"
        when = "Live: acts on the next frame." if self.live else f"Static: read {read}."
        allowed = f" One of {', '.join(self.choices)}." if self.choices else ""
        return f"{self.description}{allowed} {when}"

    @property
    def type(self) -> type:
        """Type of the value in Python."""
        return type(self.default)

    @property
    def type_name(self) -> str:
        """Name of the type, as in `ros2 param describe`."""
        return {bool: "bool", int: "integer", float: "double", str: "string", list: "string array"}[self.type]

    def as_setting(self, value: Any) -> Any:
        """Return a value of the parameter as the setting's: None where it stands for unset."""
        below = self.lowest_set is not None and value < self.lowest_set
        return None if self.unset is not None and (below or value == self.unset) else value

    def from_setting(self, value: Any) -> Value:
        """Return a value of the setting as the parameter's."""
        value = self.unset if value is None else value
        return float(value) if self.type is float else value


def parameters(*groups: type[Settings]) -> tuple[Parameter, ...]:
    """Return the settings of some groups as ROS parameters."""
    return tuple(_parameter(group, name, field) for group in groups for name, field in group.model_fields.items())


def _parameter(group: type[Settings], name: str, field: FieldInfo) -> Parameter:
    extra: Any = field.json_schema_extra
    # `Literal[...]`, or with None beside it.
    kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if get_origin(kind) is Literal]
    choices = get_args(kinds[0]) if kinds else ()
    unset, low = extra["unset"], extra["low"]
    return Parameter(
        name=group.prefix + name,
        default=field.default if unset is None else unset,
        choices=choices,
        lowest_set=low,
        **{**extra, "low": min(low, unset) if isinstance(unset, float) else low},
    )
