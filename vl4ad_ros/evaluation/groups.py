"""Groups of frames with figures of their own: categories of a data set, intervals of one state of the detector."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from vl4ad_ros.io.checked import read_yaml
from vl4ad_ros.io.errors import Vl4adError


@dataclass(frozen=True)
class Groups:
    """Frames that belong together, each of them to one group at most."""

    kind: Literal["categories", "intervals"]  # the key in `result.json`
    of_frame: Mapping[int, int]  # frame index -> place of its group
    about: Sequence[Mapping[str, Any]]  # what `result.json` says of each group besides its figures
    thresholds: Sequence[float] = ()  # of the anomaly mask in each group; empty where all have the same one


@dataclass(frozen=True)
class State:
    """A detector's settings, and the stamp of the first result that it made with them (0: of all before the next)."""

    since_ns: int
    about: Mapping[str, Any]


def intervals(states: Sequence[State], stamps_ns: Sequence[int]) -> Groups | None:
    """Return the intervals of frames, each made with one of the states in their order; None where one made all."""
    starts = [state.since_ns for state in states]
    of_frame = {index: max(bisect_right(starts, stamp) - 1, 0) for index, stamp in enumerate(stamps_ns)}
    if len(set(of_frame.values())) < 2:
        return None
    ends: list[int | None] = [*starts[1:], None]
    about = [
        {"from_ns": state.since_ns, "to_ns": end, "detector": dict(state.about)}
        for state, end in zip(states, ends, strict=True)
    ]
    return Groups("intervals", of_frame, about, [float(state.about.get("threshold", 0.5)) for state in states])


def read_categories(path: Path, names: Sequence[str]) -> Groups:
    """Read a YAML file of categories, each with some of the frames' names (`names`, by index)."""
    try:
        content = TypeAdapter(dict[str, list[str]]).validate_python(read_yaml(path), strict=True)
    except ValidationError as error:
        raise Vl4adError(f"{path}: expected categories, each with a list of frame names in quotes.") from error
    listed = [(name, place) for place, members in enumerate(content.values()) for name in members]
    place_of, index_of = dict(listed), {name: index for index, name in enumerate(names)}
    wrong = [name for name, place in listed if name not in index_of or place_of[name] != place]
    if wrong:
        raise Vl4adError(f"{path}: '{wrong[0]}' stands in two categories or is no frame of the data set.")
    of_frame = {index_of[name]: place for name, place in listed}
    return Groups("categories", of_frame, [{"name": name} for name in content])
