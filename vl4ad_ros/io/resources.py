"""Where the files that travel with the package (config/, models/) lie."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from vl4ad_ros.io.errors import Vl4adError

PACKAGE = "vl4ad_ros"


def _installed(folder: str, pattern: str) -> list[Path]:
    """Files of a folder of the installation: the source tree's, then of ROS 2 (colcon) and Python prefixes (pip)."""
    source_tree = Path(__file__).resolve().parents[2]
    roots = [source_tree] if (source_tree / "package.xml").is_file() else []
    prefixes = [*filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)), sys.prefix]
    roots += [Path(prefix) / "share" / PACKAGE for prefix in prefixes]
    return [path for root in roots for path in sorted((root / folder).glob(pattern))]


def _yaml_files(folder: str) -> dict[str, Path]:
    return {path.stem: path for path in reversed(_installed(folder, "*.yaml"))}


def prompt_yamls() -> dict[str, Path]:
    """Return the shipped prompt sets' YAML files, by name."""
    return dict(sorted(_yaml_files("config/prompts").items()))


def yaml_file(folder: str, kind: str, name_or_path: str | Path) -> Path:
    """Return a YAML file of a `kind`, given as a path or as the name of a shipped one in `folder`."""
    path, shipped = Path(name_or_path), _yaml_files(folder)
    if path.is_file():
        return path
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    raise Vl4adError(f"There is no {kind} '{name_or_path}': expected a YAML file or one of {sorted(shipped)}.")


def prompt_yaml(name_or_path: str | Path) -> Path:
    """Return the YAML file of a prompt set; arguments and errors as of `yaml_file`."""
    return yaml_file("config/prompts", "prompt set", name_or_path)


def bundle_dirs() -> dict[str, Path]:
    """Return the installed model bundles (folders under `models/` with a `card.json`), by name."""
    return {card.parent.name: card.parent for card in reversed(_installed("models", "*/card.json"))}


def bundle_dir(name_or_path: str | Path) -> Path:
    """Return the folder of a model bundle, given as a path or as the name of an installed one."""
    path, installed = Path(name_or_path), bundle_dirs()
    if path.is_dir():
        return path
    if str(name_or_path) in installed:
        return installed[str(name_or_path)]
    raise Vl4adError(
        f"There is no model bundle '{name_or_path}': expected a folder with a card.json or one of {sorted(installed)}."
    )


def config_file(relative: str) -> Path:
    """Return a file under `config/`."""
    for path in _installed("config", relative):
        return path
    raise Vl4adError(f"The installation lacks config/{relative}; install the package again.")
