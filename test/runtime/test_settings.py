"""Settings and their ROS parameters are one thing in two forms."""

from __future__ import annotations

from typing import Any

import pytest

from vl4ad_ros.runtime.settings import BY_NAME, PARAMETERS, ModelSettings, PromptSettings, from_ros, to_ros

UNSET = [("prompt_set", ""), ("random_word", ""), ("temperature", 0.0), ("threshold", -1.0), ("threshold", -0.25)]


def test_defaults_are_the_same_in_both_forms() -> None:
    defaults = {parameter.name: parameter.default for parameter in PARAMETERS}
    assert PromptSettings(**from_ros(defaults, PromptSettings.model_fields)) == PromptSettings()
    assert ModelSettings(**from_ros(defaults, ModelSettings.model_fields)) == ModelSettings()
    assert to_ros(PromptSettings(), ModelSettings()) == {}


@pytest.mark.parametrize(("name", "value"), UNSET)
def test_unset_is_none(name: str, value: Any) -> None:
    assert from_ros({name: value}, [name]) == {name: None}
    assert BY_NAME[name].from_setting(None) == BY_NAME[name].default


@pytest.mark.parametrize("settings", [{"threshold": 0.0}, {"temperature": 0.0001}, {"prompt_set": "mine"}])
def test_what_is_set_stays_as_it_is(settings: dict[str, Any]) -> None:
    there = to_ros(PromptSettings(**settings))
    assert from_ros(there, there) == settings


def test_whole_numbers_become_doubles_where_ros_wants_them() -> None:
    assert {name: type(value) for name, value in to_ros(PromptSettings(threshold=1, temperature=2)).items()} == {
        "threshold": float, "temperature": float
    }  # fmt: skip
