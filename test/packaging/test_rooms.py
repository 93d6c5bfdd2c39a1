"""The rooms of docs/architecture.md: imports between them go down only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "vl4ad_ros"
MAY_IMPORT: dict[str, set[str]] = {
    "io": set(),
    "runtime": {"io"},
    "drive": {"io"},
    "prompts": {"io", "runtime"},
    "network": {"io", "runtime", "prompts"},
    "evaluation": {"io", "runtime"},
    "training": {"io", "runtime", "prompts", "network", "evaluation"},
    "random_word": {"io", "runtime", "prompts", "network", "evaluation", "training"},
    "nodes": {"io", "runtime", "drive"},
}
MAY_IMPORT["cli"] = set(MAY_IMPORT)


def imported_rooms(file: Path) -> Iterator[str]:
    """Yield the rooms that a module imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name.split(".")[1] for name in names if name.startswith("vl4ad_ros."))


def test_every_module_is_in_a_room() -> None:
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py"}
    assert {path.parent.name for path in PACKAGE.glob("*/*.py")} == MAY_IMPORT.keys()


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_imports_go_down(room: str) -> None:
    upward = {
        f"{file.name} imports {other}"
        for file in (PACKAGE / room).glob("*.py")
        for other in imported_rooms(file)
        if other not in MAY_IMPORT[room] | {room}
    }
    assert not upward
