"""Reading many files: in threads, with a list of everything that is wrong, and caches of what was made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import atomic_write, read_npz
from vl4ad_ros.io.media import PICTURES

Job = TypeVar("Job")
Result = TypeVar("Result")
MAX_LISTED = 20
THREADS = 4


def list_pictures(folder: Path) -> list[Path]:
    """The picture files in and below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)


def read_each(read: Callable[[Job], Result], jobs: Sequence[Job]) -> tuple[list[Result], list[str]]:
    """What a function makes of each job, and one sentence for each that raises a `Vl4adError`."""

    def attempt(job: Job) -> tuple[Result | None, str | None]:
        try:
            return read(job), None
        except Vl4adError as error:
            return None, str(error)

    with ThreadPoolExecutor(THREADS) as pool:
        pairs = list(pool.map(attempt, jobs))
    return [good for good, _ in pairs if good is not None], [error for _, error in pairs if error is not None]


def refuse(errors: Sequence[str]) -> None:
    """Raise one error that lists what is wrong with the data."""
    if errors:
        listed = "\n  ".join(errors[:MAX_LISTED])
        more = f"\n  and {len(errors) - MAX_LISTED} more" if len(errors) > MAX_LISTED else ""
        raise Vl4adError(f"{len(errors)} data errors; training has not started:\n  {listed}{more}")


def read_cache(file: Path, count: int) -> list[npt.NDArray[Any]] | None:
    """The arrays that `write_cache` kept; None where there are none, or the file is damaged."""
    try:
        return list(read_npz(file, [f"arr_{index}" for index in range(count)]).values())
    except Vl4adError:
        return None


def write_cache(file: Path, arrays: Sequence[npt.NDArray[Any]]) -> None:
    """Keep arrays, whole or not at all: other processes of the run may write the same file."""
    with atomic_write(file) as part, part.open("wb") as stream:
        np.savez(stream, *arrays)
