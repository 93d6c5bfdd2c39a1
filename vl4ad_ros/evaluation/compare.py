"""What changed between two results, with bootstrap confidence intervals over the frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.component_metrics import count_matches, f1_of
from vl4ad_ros.evaluation.histograms import average_precision, fpr_at_95
from vl4ad_ros.evaluation.measure import is_labelled
from vl4ad_ros.io.errors import Vl4adError

SAMPLES = 2000
CONFIDENCE = 0.95
# Resamples that are worked on at once, so that memory stays small.
_CHUNK = 100
Result = tuple[dict[str, Any], list[dict[str, Any]], NDArray[np.uint32]]
# Of records and histograms, for draws [samples, frames].
Statistic = Callable[[Sequence[dict[str, Any]], NDArray[np.uint32], NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Change:
    """One figure of two results.

    Attributes:
        name: The figure.
        higher_is_better: Its good direction.
        before: Its value in A, as reported there.
        after: Its value in B.
        difference: B - A.
        low: Lower end of the difference's 95 % interval; None where it cannot be had.
        high: Upper end.
        paired: Whether the same frames were drawn for both.
    """

    name: str
    higher_is_better: bool
    before: float | None
    after: float | None
    difference: float | None
    low: float | None = None
    high: float | None = None
    paired: bool = False

    def regression(self, limit: float) -> bool:
        """Return whether B is worse than A by more than the limit."""
        if self.difference is None:
            # A figure that could be had before and cannot any more is worse.
            return self.before is not None and self.after is None
        return (-self.difference if self.higher_is_better else self.difference) > limit

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return asdict(self)


def compare(a: Result, b: Result, samples: int = SAMPLES, seed: int = 0, only_common: bool = False) -> list[Change]:
    """Compare two results of `read_result`.

    The figures are those of the results. The intervals come from drawing frames with repetition: the same frames for
    both where the results have the same frames (by name), else each on its own. AP and FPR95 of a resample come from
    histograms of 1,024 bins.

    Args:
        a: Before.
        b: After.
        samples: Number of resamples.
        seed: Of the drawing.
        only_common: Take only the frames that both have (a live run drops some); the figures then come from the
            histograms too.

    Raises:
        Vl4adError: If one of the results has no ground truth, or they have no frame in common.
    """
    for summary, _, _ in (a, b):
        if summary.get("pixel") is None:
            raise Vl4adError("Only results with ground truth can be compared; one of the two has none.")
    parts = [_chosen(records, histograms, is_labelled) for _, records, histograms in (a, b)]
    if only_common:
        both = set.intersection(*({record["name"] for record in records} for records, _ in parts))
        if not both and all(records for records, _ in parts):
            raise Vl4adError("The two results have no frame in common.")
        parts = [_chosen(*part, lambda record: record["name"] in both) for part in parts]
    if not all(records for records, _ in parts):
        raise Vl4adError("One of the two results has no frame with ground truth; evaluate it again.")
    names = [[record["name"] for record in records] for records, _ in parts]
    paired = names[0] == names[1]
    rng = np.random.default_rng(seed)
    draws = [_draw(rng, len(names[0]), samples)]
    draws.append(draws[0] if paired else _draw(rng, len(names[1]), samples))
    changes = []
    for name, better, place, statistic in _FIGURES:
        if only_common:
            values = [_once(statistic, *part) for part in parts]
        else:
            values = [_lookup(summary, place) for summary, _, _ in (a, b)]
        spread: list[NDArray[np.float64]] = [
            statistic(records, histograms, draw) for (records, histograms), draw in zip(parts, draws, strict=True)
        ]
        difference = spread[1] - spread[0]
        usable = difference[np.isfinite(difference)]
        low, high = (None, None)
        if len(usable) > samples // 2:
            tail = (1 - CONFIDENCE) / 2
            low, high = (float(v) for v in np.quantile(usable, [tail, 1 - tail]))
        before, after = values
        change = None if before is None or after is None else after - before
        changes.append(Change(name, better, before, after, change, low, high, paired))
    return changes


def _chosen(
    records: list[dict[str, Any]], histograms: NDArray[np.uint32], wanted: Callable[[dict[str, Any]], bool]
) -> tuple[list[dict[str, Any]], NDArray[np.uint32]]:
    """Return the frames that are wanted."""
    chosen = [i for i, record in enumerate(records) if wanted(record)]
    return [records[i] for i in chosen], histograms[chosen]


def _once(statistic: Statistic, records: list[dict[str, Any]], histograms: NDArray[np.uint32]) -> float | None:
    """Return the figure of these frames as they are."""
    value = float(statistic(records, histograms, np.ones((1, len(records))))[0])
    return value if np.isfinite(value) else None


def _draw(rng: np.random.Generator, frames: int, samples: int) -> NDArray[np.float64]:
    """Return how often each frame is drawn, [samples, frames]."""
    return rng.multinomial(frames, np.full(frames, 1 / frames), size=samples).astype(np.float64)


def _histogram_statistic(
    function: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]],
) -> Statistic:
    def statistic(
        records: Sequence[dict[str, Any]], histograms: NDArray[np.uint32], draws: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        negative, positive = (histograms[:, kind].astype(np.float64) for kind in (0, 1))
        chunks = [draws[i : i + _CHUNK] for i in range(0, len(draws), _CHUNK)]
        return np.concatenate([function(chunk @ negative, chunk @ positive) for chunk in chunks])

    return statistic


def _component_f1(
    records: Sequence[dict[str, Any]], histograms: NDArray[np.uint32], draws: NDArray[np.float64]
) -> NDArray[np.float64]:
    counts = [
        count_matches([o["siou"] for o in record["objects"]], [s["precision"] for s in record["segments"]])
        for record in records
    ]
    return np.asarray(f1_of(np.einsum("sf,fkt->kst", draws, np.array(counts, np.float64))).mean(axis=1))


def _lookup(summary: dict[str, Any], place: tuple[str, str]) -> float | None:
    group = summary.get(place[0])
    value = group.get(place[1]) if isinstance(group, dict) else None
    return float(value) if isinstance(value, int | float) else None


_FIGURES = (
    ("AP", True, ("pixel", "ap"), _histogram_statistic(average_precision)),
    ("FPR95", False, ("pixel", "fpr95"), _histogram_statistic(fpr_at_95)),
    ("component F1", True, ("components", "f1_mean"), _component_f1),
)
