"""The launch files without the launch packages, which are on no registry: a stand-in keeps what it is given."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODULES = (
    "launch", "launch.actions", "launch.conditions", "launch.event_handlers", "launch.events", "launch.events.process",
    "launch.launch_description_sources", "launch.substitutions", "launch_ros", "launch_ros.actions",
    "launch_ros.parameter_descriptions",
)  # fmt: skip


class Part:
    """Any class of the launch packages: keeps its arguments as attributes."""

    def __init__(self, *positional: Any, **named: Any) -> None:
        self.positional = positional
        self.__dict__.update(named)

    def perform(self, context: Any) -> str:
        return str(context.given[self.positional[0]])


class StandIn(ModuleType):
    """A module of the launch packages."""

    def __getattr__(self, name: str) -> type[Part]:
        if name.startswith("_"):
            raise AttributeError(name)
        setattr(self, name, type(name, (Part,), {}))
        return getattr(self, name)  # type: ignore[no-any-return]


class LaunchFile:
    """A launch file that is loaded on the stand-in."""

    def __init__(self, name: str) -> None:
        path = ROOT / "launch" / f"{name}.launch.py"
        spec = importlib.util.spec_from_file_location(f"{name}_launch", path)
        assert spec is not None
        assert spec.loader is not None
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        (self.parts,) = module.generate_launch_description().positional

    def of(self, kind: str) -> list[Any]:
        return [part for part in self.parts if type(part).__name__ == kind]

    def arguments(self) -> list[Any]:
        return self.of("DeclareLaunchArgument")

    def start(self, **given: str) -> list[Any]:
        """What is started with these arguments; the others have their defaults."""
        arguments = {part.positional[0]: part.default_value for part in self.arguments()}
        (action,) = self.of("OpaqueFunction")
        actions: list[Any] = action.function(SimpleNamespace(given=arguments | given))
        return actions


def put_in_place(put: Callable[[str, ModuleType], object]) -> None:
    """Register the stand-ins by `put`, which takes a module's name and the module."""
    for name in MODULES:
        put(name, StandIn(name))
