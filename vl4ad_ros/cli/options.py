"""Types of the command-line options: the groups of settings, checked numbers, sizes."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token
from cyclopts.validators import Number
from tqdm import tqdm

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.settings import MapSettings, ModelSettings, PromptSettings

FAULTS_SHOWN = 3


def _whole(type_: object, tokens: Sequence[Token]) -> int:
    """Convert a whole number; cyclopts itself would round 1.5."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", tokens[0].value):
        raise ValueError(f'expected a whole number, got "{tokens[0].value}".')
    return int(tokens[0].value)


def _check_network(type_: object, settings: MapSettings) -> None:
    if settings.random_word is not None and settings.method == "vl4ad":
        raise ValueError(
            f"--random-word {settings.random_word} is of no use to --method vl4ad; add --method random_word or both."
        )


def _check_rate(type_: object, rate: float | None) -> None:
    if rate is not None and not 0.001 <= rate <= 1000:
        raise ValueError("Must lie in [0.001, 1000].")


Whole = Annotated[int, Parameter(converter=_whole)]
Count = Annotated[int, Parameter(converter=_whole, validator=Number(gte=1))]
Threads = Annotated[int, Parameter(converter=_whole, validator=Number(gte=0, lte=256))]
Rate = Annotated[float, Parameter(validator=_check_rate)]
RateOrZero = Annotated[float, Parameter(validator=lambda kind, rate: _check_rate(kind, rate or None))]
Json = Annotated[bool, Parameter(name="--json")]
Group = Parameter(name="*")
Model = Annotated[ModelSettings, Group]
Map = Annotated[MapSettings, Parameter(name="*", validator=_check_network)]
Prompts = Annotated[PromptSettings, Parameter(name="*", validator=_check_network)]


def parse_size(text: str, form: str = "HxW") -> tuple[int, int]:
    """Return the two numbers of a size like 512x1024.

    Args:
        text: What was given.
        form: Order of the two, for the sentence where it is none.
    """
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text.lower())
    if match is None or 0 in (sides := (int(match[1]), int(match[2]))):
        raise Vl4adError(f"A size is {form} in pixels, e.g. 512x1024, got '{text}'.")
    return sides


@contextmanager
def noted(faults: list[str], path: Path) -> Iterator[None]:
    """Keep what is wrong with a file for `report`: it does not stop the others."""
    try:
        yield
    except Vl4adError as error:
        faults.append(str(error) if str(path) in str(error) else f"{path}: {error}")


def report(faults: list[str], inputs: int, place: str = "") -> None:
    """Raise one sentence on the files that could not be processed, where there are any."""
    if faults:
        more = len(faults) - FAULTS_SHOWN
        raise Vl4adError(
            f"{len(faults)} of {inputs} inputs could not be processed as a whole{place}: "
            f"{' '.join(faults[:FAULTS_SHOWN])}" + (f" and {more} more" if more > 0 else "")
        )


def print_error(line: str) -> None:
    """Print a line on standard error, at once: what is being done, or what went wrong."""
    print(line, file=sys.stderr, flush=True)


def progress_bar(what: str, unit: str = "frame") -> Callable[[int, int], None]:
    """Return what shows `done` of `total` as a bar, in calls with growing numbers."""
    bar: Any = None

    def show(done: int, total: int) -> None:
        nonlocal bar
        bar = bar or tqdm(total=total, desc=what, unit=unit, file=sys.stderr)
        bar.total = total
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
            bar = None

    return show
