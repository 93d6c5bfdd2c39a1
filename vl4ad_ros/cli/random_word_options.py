"""What the kinds of `vl4ad random-word` share: options, pictures, progress, and files that are checked first."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.media import PICTURES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def add_random_word(parser: argparse._ActionsContainer) -> None:
    """Declare which random-word network a command takes that runs a bundle."""
    parser.add_argument(
        "--random-word", metavar="NETWORK", help="random-word network: name or .safetensors file; default: the bundle's"
    )


def random_word_network(args: argparse.Namespace) -> str | None:
    """Return the random-word network that the options name, or None.

    Raises:
        Vl4adError: If one is named for a method that has none.
    """
    network: str | None = args.random_word
    if network is not None and args.method == "vl4ad":
        raise Vl4adError(f"--random-word {network} is of no use to --method vl4ad; add --method random_word or both.")
    return network


def check_output(path: Path) -> None:
    """Make a file's folder and see that the file can be written, before the work that it shall keep.

    Raises:
        Vl4adError: If it cannot be written.
    """
    if path.is_dir():
        raise Vl4adError(f"{path} is a folder; name a file.")
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        part.unlink()
    except OSError as error:
        raise Vl4adError(f"{path}: cannot be written ({error}).") from error


def write_text(path: Path, text: str) -> None:
    """Write a file as a whole or not at all.

    Raises:
        Vl4adError: If it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise Vl4adError(f"{path}: cannot be written ({error}).") from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write plain data as JSON; a number that JSON does not know (NaN) becomes null."""
    from vl4ad_ros.evaluation.result import plain

    write_text(path, json.dumps(plain(content), indent=1, allow_nan=False) + "\n")


def read_images(folder: Path, most: int, option: str) -> list[NDArray[np.uint8]]:
    """Read up to `most` images, spread evenly over a folder.

    Args:
        folder: The folder.
        most: Images at most.
        option: The option that `most` comes from, for the sentence where it is wrong.

    Raises:
        Vl4adError: If there is no such folder, it holds no images, one is damaged, or `most` is below 1.
    """
    from vl4ad_ros.io.media import read_picture

    if not folder.is_dir():
        raise Vl4adError(f"There is no folder {folder}.")
    if most < 1:
        raise Vl4adError(f"{option} must be at least 1, got {most}.")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    if not files:
        raise Vl4adError(f"{folder} holds no images.")
    count = min(most, len(files))
    return [read_picture(files[index * len(files) // count], as_stored=True) for index in range(count)]


def say(line: str) -> None:
    """Print a line on what is being done."""
    print(line, file=sys.stderr, flush=True)


def progress(what: str) -> Callable[[int, int], None]:
    """Return what prints `done of total`: on a terminal each time, elsewhere at the end."""

    def report(done: int, total: int) -> None:
        if sys.stderr.isatty() or done == total:
            print(f"\r{done} of {total} {what}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return report
