"""Options of the random-word method that several commands share, and progress lines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vl4ad_ros.io.errors import Vl4adError

if TYPE_CHECKING:
    from vl4ad_ros.random_word.clip_windows import ClipWindowSpec


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


def add_clip_windows(parser: argparse.ArgumentParser) -> None:
    """Declare how a CLIP model runs, which `--bundle open_clip:MODEL/PRETRAINED` names."""
    group = parser.add_argument_group("CLIP windows (--bundle open_clip:MODEL/PRETRAINED --method random_word)")
    group.add_argument("--weights", type=Path, help="local weights file of the CLIP model")
    group.add_argument("--windows", type=int, nargs="*", default=[2, 3], help="window sizes in patches")
    group.add_argument("--images", type=Path, help="folder of unlabelled pictures to close the gap with")
    group.add_argument("--most-images", type=int, default=16, help="images used, spread evenly over the folder")
    group.add_argument("--reference", choices=("normal", "all"), default="normal", help="what the images show")


def clip_windows(args: argparse.Namespace) -> ClipWindowSpec | None:
    """Return the CLIP model that the options name; None where they name a bundle.

    Raises:
        Vl4adError: If an option does not go with a CLIP model.
    """
    from vl4ad_ros.prompts.encoders import OPEN_CLIP_PREFIX

    if not args.bundle.startswith(OPEN_CLIP_PREFIX):
        if args.images is not None or args.weights is not None:
            raise Vl4adError("--images and --weights are for a CLIP model (--bundle open_clip:MODEL/PRETRAINED).")
        return None
    if args.method != "random_word" or args.random_word is None:
        raise Vl4adError(
            f"--bundle {args.bundle} takes --method random_word and --random-word NETWORK: a .safetensors file, or a "
            "prompt family (road, products) to compare cosines without training."
        )
    from vl4ad_ros.random_word.clip_windows import ClipWindowSpec

    return ClipWindowSpec(
        args.bundle, args.random_word, args.weights, tuple(args.windows), args.images, args.most_images, args.reference
    )


def say(line: str) -> None:
    """Print a line on what is being done."""
    print(line, file=sys.stderr, flush=True)


def progress(what: str) -> Callable[[int, int], None]:
    """Return what prints `done of total`: on a terminal each time, elsewhere at the end."""

    def report(done: int, total: int) -> None:
        if sys.stderr.isatty() or done == total:
            print(f"\r{done} of {total} {what}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return report
