"""`vl4ad evaluate`: a table of what can be evaluated, each in its own module."""

from __future__ import annotations

import argparse
import importlib
from typing import cast

from vl4ad_ros.cli.main import Command

HELP = "evaluate on benchmarks, folders, bags or stored score maps; compare results; choose a threshold"
KINDS: dict[str, str] = {
    "dataset": "evaluate_dataset",
    "bag": "evaluate_bag",
    "arrays": "evaluate_arrays",
    "compare": "evaluate_compare",
    "calibrate": "evaluate_calibrate",
}


def _module(kind: str) -> Command:
    return cast(Command, importlib.import_module(f"vl4ad_ros.cli.{KINDS[kind]}"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare one sub-command per kind."""
    kinds = parser.add_subparsers(title="what to do", metavar="KIND", dest="kind", required=True)
    for kind in KINDS:
        module = _module(kind)
        module.add_arguments(kinds.add_parser(kind, help=module.HELP, description=module.HELP))


def run(args: argparse.Namespace) -> int:
    """Run the chosen kind."""
    return _module(args.kind).run(args)
