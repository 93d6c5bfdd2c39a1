"""The `vl4ad` command: a table of sub-commands, each a function that is imported when it is called."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

try:
    from cyclopts import App, CycloptsError, Parameter
    from pydantic import ValidationError

    from vl4ad_ros import __version__
    from vl4ad_ros.io.errors import Vl4adError
except KeyboardInterrupt:  # while the libraries are read
    sys.exit(130)

# Command -> where its function is; or what its sub-commands do, and where theirs are.
COMMANDS: dict[str, str | tuple[str, dict[str, str]]] = {
    "demo": "demo:demo",
    "detect": "detect:detect",
    "explain": "explain:explain",
    "playground": "playground:playground",
    "prompts": (
        "List, inspect and compile prompt sets; choose their thresholds.",
        {
            "list": "prompts:list_sets",
            "inspect": "prompts:inspect",
            "compile": "prompts:compile_set",
            "thresholds": "prompt_thresholds:thresholds",
        },
    ),
    "evaluate": (
        "Evaluate on benchmarks, folders, bags or stored score maps; compare results; choose a threshold.",
        {
            "dataset": "evaluate_dataset:dataset",
            "bag": "evaluate_bag:bag",
            "arrays": "evaluate_arrays:arrays",
            "compare": "evaluate_compare:compare",
            "calibrate": "evaluate_calibrate:calibrate",
        },
    ),
    "replay": "bags:replay",
    "sample-drive": "bags:sample_drive",
    "make-bag": "bags:make_bag",
    "bench": (
        "Measure speed and memory.",
        {
            "scoring": "bench_scoring:scoring",
            "engine": "bench:engine",
            "gpu": "bench_gpu:gpu",
            "ros": "bench_ros:ros",
        },
    ),
    "export": (
        "Export a network to an ONNX bundle, or a bundle to a TensorRT engine.",
        {"onnx": "export:onnx", "tensorrt": "export:tensorrt"},
    ),
    "import-fcclip": "import_fcclip:import_fcclip",
    "train": "train:train",
    "ablate": "train:ablate",
    "random-word": (
        "Train and evaluate the random-word method (text-only training).",
        {
            "train": "random_word:train",
            "gap": "random_word:gap",
            "thresholds": "random_word:thresholds",
            "inspect": "random_word:inspect",
            "compare": "random_word_compare:compare",
        },
    ),
}
USAGE_ERROR = 2
INTERRUPTED = 130
TRACEBACK = "VL4AD_TRACEBACK"
"""Environment variable that shows the traceback of an unexpected error."""


def make_app() -> App:
    """Return the command line."""
    app = App(
        name="vl4ad",
        help="Road-anomaly detection with vision-language mask segmentation networks.",
        version=f"vl4ad_ros {__version__}",
        help_format="plaintext",
        default_parameter=Parameter(
            negative=(),
            consume_multiple=(1, None),
            allow_repeating=True,
            show_env_var=False,
            show_default=_shown_default,
        ),
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    for name, command in COMMANDS.items():
        if isinstance(command, str):
            app.command(f"vl4ad_ros.cli.{command}", name=name)
        else:
            help, functions = command
            group = App(name=name, help=help)
            for action, function in functions.items():
                group.command(f"vl4ad_ros.cli.{function}", name=action)
            app.command(group)
    return app


def _shown_default(value: object) -> str | None:
    """Return a default as one types it; nothing for one that says nothing."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return None if value is None or value is False or value == "" else str(value)


def _load_shown(app: App, arguments: Sequence[str]) -> None:
    """Import the commands that a group's help lists: each has its sentence from its function."""
    names, apps, rest = app.parse_commands(arguments)
    asked = bool(names) and names[-1] in app.help_flags
    group = apps[-2] if asked else apps[-1]
    if group.default_command is None:
        known = group.resolved_commands()
        if not asked and not rest:
            path = " ".join(["vl4ad", *names])
            raise Vl4adError(f"'{path}' needs one of: {', '.join(n for n in known if n[0] != '-')}.")


def explain(error: CycloptsError) -> str:
    """Return a mistake on the command line as one sentence."""
    if isinstance(error.__cause__, ValidationError):
        fault = error.__cause__.errors()[0]
        name = "-".join(str(part) for part in fault["loc"]).replace("_", "-")
        return f"--{name}: {fault['msg'].removeprefix('Value error, ')}, got '{fault['input']}'."
    return " ".join(str(error).split())


def main(argv: Sequence[str] | None = None) -> int:
    """Run `vl4ad`.

    Args:
        argv: Arguments without the program's name; None takes the process's.

    Returns:
        Exit status: 0; 2 where it failed, with one sentence on stderr; 130 when interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    app = make_app()
    if not sys.stderr.isatty():
        # A log gets the bar of a long run a few times a minute, not ten times a second; tqdm looks when it is imported.
        os.environ.setdefault("TQDM_MININTERVAL", "15")
    if isinstance(sys.stdout, io.TextIOWrapper):  # A name that the terminal cannot show is no reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _load_shown(app, arguments)
        return int(app(arguments) or 0)
    except CycloptsError as error:
        print(f"vl4ad: {explain(error)}", file=sys.stderr)
    except Vl4adError as error:
        print(f"vl4ad: {error}", file=sys.stderr)
    except BrokenPipeError:  # The reader (head, less) has seen enough.
        sys.stderr.close()
        return 0
    except OSError as error:
        print(f"vl4ad: {error.filename or 'input or output'}: {error.strerror or error}.", file=sys.stderr)
    except KeyboardInterrupt:
        print("vl4ad: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # What a library makes of a file that nobody thought of.
        if os.environ.get(TRACEBACK):
            raise
        said = " ".join(str(error).split())[:300]
        print(f"vl4ad: {type(error).__name__}: {said} ({TRACEBACK}=1 shows where)", file=sys.stderr)
    return USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
