"""Checked files: pydantic models whose errors are one sentence that names the file, the place and the near key."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import check_regular

Model = TypeVar("Model", bound=BaseModel)

INTEGER, TEXT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:str"
MAX_TEXT = 64 << 20  # bytes
_PLAIN_NUMBER = re.compile("0|[1-9][0-9]*")


class Checked(BaseModel):
    """Base of every file schema: unknown keys are errors, objects are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice; plain YAML keeps the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            # A whole number is a key as it is written (label values, say). What YAML reads as another number than one
            # sees (012, 1_0, 1:30) is still to be quoted, as are its words for true and false.
            if key_node.tag == INTEGER and _PLAIN_NUMBER.fullmatch(key_node.value):
                key_node.tag = TEXT
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise Vl4adError(f"line {line}: key {key!r} is not text (quote it)")
            if key in seen:
                raise Vl4adError(f"line {line}: duplicate name '{key}'")
            seen.add(key)
        return super().construct_mapping(node, deep)


def explain(error: ValidationError, schema: type[BaseModel]) -> str:
    """Return the first fault of a validation error as one sentence, with the nearest known key for an unknown one."""
    # A misspelt key is reported before the missing key that it causes.
    first = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _keys_at(schema, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"expected one of {known}"
        return f"unknown key '{where}' ({hint})"
    if first["type"] == "missing":
        return f"'{where}' is missing"
    message = first["msg"].removeprefix("Value error, ")
    text = f"{where}: {message}" if where else message
    given = first.get("input")
    if isinstance(given, dict | list | BaseModel) or first["type"] == "value_error":
        return text
    return f"{text} (got {given!r})"


def _keys_at(schema: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """Return the keys that the schema knows at a location, following nested models and containers of them."""
    current: Any = schema
    for part in location:
        fields = getattr(current, "model_fields", {})
        if part in fields:
            current = _model_in(fields[part].annotation)
    return list(getattr(current, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = map(_model_in, getattr(annotation, "__args__", ()))
    return next((model for model in found if model is not None), None)


def validate(schema: type[Model], data: Any, source: str | Path) -> Model:
    """Check plain data against a schema."""
    if not isinstance(data, dict):
        raise Vl4adError(f"{source}: expected a mapping of keys to values, got {type(data).__name__}.")
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        raise Vl4adError(f"{source}: {explain(error, schema)}.") from error


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file safely."""
    check_regular(path)
    return _parsed(path, "YAML", lambda: yaml.load(_text(path, "YAML"), Loader=_UniqueKeyLoader))


def parse_yaml(text: str, source: str) -> Any:
    """Read YAML that stands in no file; `source` names it in errors."""
    return _parsed(source, "YAML", lambda: yaml.load(text, Loader=_UniqueKeyLoader))


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    check_regular(path)
    return _parsed(path, "JSON", lambda: json.loads(_text(path, "JSON")))


def _text(path: str | Path, kind: str) -> str:
    if (size := Path(path).stat().st_size) > MAX_TEXT:
        raise Vl4adError(f"{size} bytes are too many for a {kind} file")
    return Path(path).read_text(encoding="utf-8")


def _parsed(source: str | Path, kind: str, parse: Callable[[], Any]) -> Any:
    try:
        return parse()
    except Vl4adError as error:
        raise Vl4adError(f"{source}: {error}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise Vl4adError(f"{source}: cannot be read as {kind} ({error}).") from error
    except RecursionError as error:
        raise Vl4adError(f"{source}: not valid {kind} (nested too deeply).") from error
    except Exception as error:  # besides its own errors, whatever Python's int, dates and bools make of a value
        raise Vl4adError(f"{source}: not valid {kind} ({' '.join(str(error).split())}).") from error
