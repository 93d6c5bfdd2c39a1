"""What the kinds of `vl4ad random-word` share: options, pictures, progress, and files that are checked first."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

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
