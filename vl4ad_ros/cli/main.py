"""The `vl4ad` command: a table of sub-commands, each a module that is imported when it is called."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any, Protocol, cast

from vl4ad_ros import __version__
from vl4ad_ros.io.errors import Vl4adError

COMMANDS: dict[str, str] = {
    "demo": "demo",
    "detect": "detect",
    "prompts": "prompts",
    "evaluate": "evaluate",
    "replay": "replay",
    "sample-drive": "sample_drive",
    "make-bag": "make_bag",
    "bench": "bench",
    "export": "export",
    "import-fcclip": "import_fcclip",
    "train": "train",
    "ablate": "ablate",
    "random-word": "random_word",
}

USAGE_ERROR = 2
INTERRUPTED = 130


class Command(Protocol):
    """What a sub-command's module offers."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""

    def run(self, args: argparse.Namespace) -> int:
        """Do the work and return the exit status."""
        ...


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that say something, where the help's own words do not name them."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default is False or action.default in (None, "", [])
        return action.help if silent or "default" in (action.help or "") else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """A parser with our help; those of its sub-commands are of its class."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": HelpFormatter, **options})


def load(name: str) -> Command:
    """Import a sub-command's module."""
    return cast(Command, importlib.import_module(f"vl4ad_ros.cli.{COMMANDS[name]}"))


def command_parser(name: str) -> argparse.ArgumentParser:
    """Return the parser of one sub-command."""
    command = load(name)
    parser = Parser(prog=f"vl4ad {name}", description=command.HELP)
    command.add_arguments(parser)
    return parser


def top_parser() -> argparse.ArgumentParser:
    """Return the parser of `vl4ad` itself, for its help and for wrong names."""
    parser = argparse.ArgumentParser(
        prog="vl4ad",
        description="Road-anomaly detection with vision-language mask segmentation networks.",
        epilog="'vl4ad COMMAND --help' explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"vl4ad_ros {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        commands.add_parser(name, help=load(name).HELP)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `vl4ad`.

    Args:
        argv: Arguments without the program's name; None takes the process's.

    Returns:
        Exit status: 0, 2 for what the user can put right (said in one sentence on stderr), 130 when interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and arguments[0] in COMMANDS:
            name = arguments[0]
            return load(name).run(command_parser(name).parse_args(arguments[1:]))
        top_parser().parse_args(arguments)
    except Vl4adError as error:
        print(f"vl4ad: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("vl4ad: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # The reader (head, less) has seen enough.
        sys.stderr.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
