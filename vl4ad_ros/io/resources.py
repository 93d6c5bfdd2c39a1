"""Where the files that travel with the package (config/, models/) lie."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from vl4ad_ros.io.errors import Vl4adError

PACKAGE = "vl4ad_ros"


def roots() -> Iterator[Path]:
    """Yield the folders that hold `config/` and `models/`, nearest first.

    The source tree (editable installs), then `share/vl4ad_ros` of each ROS 2 prefix (colcon), then that of the Python
    prefix (pip).
    """
    source_tree = Path(__file__).resolve().parents[2]
    if (source_tree / "package.xml").is_file():
        yield source_tree
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    for prefix in [*prefixes, sys.prefix]:
        share = Path(prefix) / "share" / PACKAGE
        if share.is_dir():
            yield share


def _names(kind: str, pattern: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for root in roots():
        for path in sorted((root / kind).glob(pattern)):
            found.setdefault(path.stem if path.is_file() else path.name, path)
    return found


def prompt_yamls() -> dict[str, Path]:
    """Return the shipped prompt sets' YAML files, by name."""
    return _names("config/prompts", "*.yaml")


def yaml_file(folder: str, kind: str, name_or_path: str | Path) -> Path:
    """Return a YAML file, given as a path or as the name of a shipped one.

    Args:
        folder: Where the shipped ones lie, below the installation.
        kind: Kind of file, for the error.
        name_or_path: The file.

    Raises:
        Vl4adError: If there is neither such a file nor a shipped one of that name.
    """
    path, shipped = Path(name_or_path), _names(folder, "*.yaml")
    if path.is_file():
        return path
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    raise Vl4adError(f"There is no {kind} '{name_or_path}': expected a YAML file or one of {sorted(shipped)}.")


def prompt_yaml(name_or_path: str | Path) -> Path:
    """Return the YAML file of a prompt set, given as a path or as the name of a shipped one.

    Raises:
        Vl4adError: If there is neither such a file nor a shipped set of that name.
    """
    return yaml_file("config/prompts", "prompt set", name_or_path)


def bundle_dirs() -> dict[str, Path]:
    """Return the installed model bundles (folders under `models/` with a `card.json`), by name."""
    return {
        path.parent.name: path.parent
        for root in reversed(list(roots()))
        for path in (root / "models").glob("*/card.json")
    }


def bundle_dir(name_or_path: str | Path) -> Path:
    """Return the folder of a model bundle, given as a path or as the name of an installed one.

    Raises:
        Vl4adError: If there is neither such a folder nor an installed bundle of that name.
    """
    path = Path(name_or_path)
    if path.is_dir():
        return path
    installed = bundle_dirs()
    if str(name_or_path) in installed:
        return installed[str(name_or_path)]
    raise Vl4adError(
        f"There is no model bundle '{name_or_path}': expected a folder with a card.json or one of {sorted(installed)}."
    )


def config_file(relative: str) -> Path:
    """Return a file under `config/`.

    Raises:
        Vl4adError: If the installation lacks it.
    """
    for root in roots():
        path = root / "config" / relative
        if path.is_file():
            return path
    raise Vl4adError(f"The installation lacks config/{relative}; install the package again.")
