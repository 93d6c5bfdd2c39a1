"""Bootstrap confidence intervals over the frames: of one result, and of the change between two."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.component_metrics import count_matches, f1_of
from vl4ad_ros.evaluation.histograms import auroc, average_precision, fpr_at_95
from vl4ad_ros.io.errors import Vl4adError

SAMPLES = 2000
CONFIDENCE = 0.95
# Resamples that are worked on at once, so that memory stays small.
_CHUNK = 100
Records = Sequence[dict[str, Any]]
Histograms = NDArray[np.uint32]
Floats = NDArray[np.float64]
Result = tuple[dict[str, Any], list[dict[str, Any]], Histograms]


@dataclass(frozen=True)
class Change:
    """One figure of two results A and B, and the change from A to B."""

    name: str
    higher_is_better: bool
    before: float | None  # its value in A, as reported there; None where it has none
    after: float | None
    difference: float | None  # B - A
    low: float | None = None  # lower end of the difference's 95 % interval; None where it cannot be had
    high: float | None = None
    paired: bool = False  # whether the same frames were drawn for both

    def regression(self, limit: float) -> bool:
        """Return whether B is worse than A by more than the limit."""
        if self.difference is None:
            # A figure that could be had before and cannot any more is worse.
            return self.before is not None and self.after is None
        return (-self.difference if self.higher_is_better else self.difference) > limit


def compare(a: Result, b: Result, samples: int = SAMPLES, seed: int = 0, only_common: bool = False) -> list[Change]:
    """Compare two results of `read_result`: their figures, and 95 % intervals of the change.

    The intervals come from drawing frames with repetition: the same frames for both where the results have the same
    frames (by name), else each on its own; AP and FPR95 of a resample from histograms of 1,024 bins. With `only_common`
    (a live run drops some frames) the figures come from the histograms too.
    """
    if any(summary.get("pixel") is None for summary, _, _ in (a, b)):
        raise Vl4adError("Only results with ground truth, of one state of the detector, can be compared; one is not.")
    parts = [_chosen(records, histograms) for _, records, histograms in (a, b)]
    if not all(records for records, _ in parts):
        raise Vl4adError("One of the two results has no frame with ground truth; evaluate it again.")
    if only_common:
        both = set.intersection(*({record["name"] for record in records} for records, _ in parts))
        if not both:
            raise Vl4adError("The two results have no frame in common.")
        parts = [_chosen(records, histograms, both) for records, histograms in parts]
    names = [[record["name"] for record in records] for records, _ in parts]
    paired = names[0] == names[1]
    rng = np.random.default_rng(seed)
    draws = [_draw(rng, len(names[0]), samples)]
    draws.append(draws[0] if paired else _draw(rng, len(names[1]), samples))
    changes = []
    for name, better, (group, key), statistic in _FIGURES:
        spread = [statistic(*part, draw) for part, draw in zip(parts, draws, strict=True)]
        if only_common:
            values = [_once(statistic, *part) for part in parts]
        else:
            values = [(summary.get(group) or {}).get(key) for summary, _, _ in (a, b)]
        before, after = values
        low, high = _interval(spread[1] - spread[0])
        change = None if before is None or after is None else after - before
        changes.append(Change(name, better, before, after, change, low, high, paired))
    return changes


def frame_intervals(
    values: Mapping[str, Any], histograms: Histograms, samples: int = SAMPLES, seed: int = 0
) -> dict[str, list[float] | None]:
    """Return the 95 % intervals of `ap`, `fpr95` and `auroc` from drawing whole frames with repetition.

    `values` are the figures of all frames, about which the intervals lie: what the bins of the histograms, uint32 [F,
    2, bins], negatives and positives, lowest score first, change in a figure is taken off. Figure -> [low, high], or
    None with fewer than two frames, or where most resamples lack the figure.
    """
    intervals: dict[str, list[float] | None] = {}
    draws = _draw(np.random.default_rng(seed), len(histograms), samples) if len(histograms) > 1 else None
    for key, figure in (("ap", average_precision), ("fpr95", fpr_at_95), ("auroc", auroc)):
        low = high = None
        if draws is not None:
            binned = figure(*histograms.sum(axis=0, dtype=np.float64))
            low, high = _interval(_of_histograms(figure, [], histograms, draws) + (values[key] - binned))
        intervals[key] = None if low is None or high is None else [max(low, 0.0), min(high, 1.0)]
    return intervals


def _chosen(records: Records, histograms: Histograms, names: Set[str] | None = None) -> tuple[Records, Histograms]:
    """Return the frames with ground truth, of those names where some are given."""
    chosen = [i for i, r in enumerate(records) if "objects" in r and (names is None or r["name"] in names)]
    return [records[i] for i in chosen], histograms[chosen]


def _draw(rng: np.random.Generator, frames: int, samples: int) -> Floats:
    """Return how often each frame is drawn, [samples, frames]."""
    return rng.multinomial(frames, np.full(frames, 1 / frames), size=samples).astype(np.float64)


def _interval(difference: Floats) -> tuple[float | None, float | None]:
    """Return the ends of the confidence interval, where most resamples have the figure."""
    usable = difference[np.isfinite(difference)]
    if len(usable) <= len(difference) // 2:
        return None, None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(usable, [tail, 1 - tail]).tolist()
    return low, high


def _once(statistic: Callable[..., Floats], records: Records, histograms: Histograms) -> Any:
    """Return the figure of these frames as they are, None where they have none."""
    value = float(statistic(records, histograms, np.ones((1, len(records))))[0])
    return value if np.isfinite(value) else None


def _of_histograms(
    figure: Callable[[Floats, Floats], Floats], records: Records, histograms: Histograms, draws: Floats
) -> Floats:
    """Return a figure of the pixels for each draw, [samples]."""
    negative, positive = (histograms[:, kind].astype(np.float64) for kind in (0, 1))
    chunks = [draws[i : i + _CHUNK] for i in range(0, len(draws), _CHUNK)]
    return np.concatenate([figure(chunk @ negative, chunk @ positive) for chunk in chunks])


def _component_f1(records: Records, histograms: Histograms, draws: Floats) -> Floats:
    """Return the mean component F1 for each draw, [samples]."""
    counts = [
        count_matches([o["siou"] for o in record["objects"]], [s["precision"] for s in record["segments"]])
        for record in records
    ]
    return np.asarray(f1_of(np.einsum("sf,fkt->kst", draws, np.array(counts, np.float64))).mean(axis=1))


_FIGURES: tuple[tuple[str, bool, tuple[str, str], Callable[[Records, Histograms, Floats], Floats]], ...] = (
    ("AP", True, ("pixel", "ap"), partial(_of_histograms, average_precision)),
    ("FPR95", False, ("pixel", "fpr95"), partial(_of_histograms, fpr_at_95)),
    ("component F1", True, ("components", "f1_mean"), _component_f1),
)
