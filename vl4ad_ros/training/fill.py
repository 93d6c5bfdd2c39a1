"""Labels for pixels that have none, from the network that a run starts with (self-training)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import read_npz, sha256_text
from vl4ad_ros.training.config import TrainConfig
from vl4ad_ros.training.data import RunData
from vl4ad_ros.training.label_tables import IGNORE, LabelTable
from vl4ad_ros.training.objective import Learner
from vl4ad_ros.training.validate import logits_of


def fill_unlabelled(config: TrainConfig, data: RunData, learner: Learner, source: str) -> int:
    """Give unlabelled pixels of the sets with `fill` < 1 the class that the network is sure of; in place.

    Args:
        config: the run; what was found is kept in its cache.
        data: its frames, whose rows are changed.
        learner: the network at the run's start, in evaluation mode.
        source: identifies the network.

    Returns:
        Number of pixels that got a label.
    """
    filled = 0
    for spec, frames in zip(config.datasets, data.maker.sets, strict=True):
        if spec.fill == 1:
            continue
        described = f"{source} {spec.model_dump_json()} {config.validation.pixels} {data.table.rows.tolist()}"
        file = config.output / "cache" / f"fill-{sha256_text(described)[:12]}.npz"
        guesses = _kept(file, len(frames))
        if guesses is None:
            guesses = [_guess(config, data, learner, image, spec.fill) for image in frames.images]
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(file, *guesses)
        for guessed, rows in zip(guesses, frames.rows, strict=True):
            height, width = rows.shape
            ys = np.arange(height) * guessed.shape[0] // height
            xs = np.arange(width) * guessed.shape[1] // width
            empty = rows == IGNORE
            rows[empty] = guessed[np.ix_(ys, xs)][empty]
            filled += int((rows[empty] != IGNORE).sum())
    return filled


def _kept(file: Path, count: int) -> list[np.ndarray] | None:
    """What an earlier start of the run found; None where there is nothing whole."""
    names = tuple(f"arr_{index}" for index in range(count))
    try:
        stored = read_npz(file, names)
    except (Vl4adError, ValueError):
        return None
    return [stored[name] for name in names]


def _guess(config: TrainConfig, data: RunData, learner: Learner, image: np.ndarray, least: float) -> np.ndarray:
    logits = logits_of(learner, image, config.validation.pixels, data.all_concepts())
    return np.where(*_sure(logits, least, _single_rows(data.table))).astype(np.uint8)


def _sure(logits: Tensor, least: float, own_row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.uint8]:
    """Where the network is sure, the row of its class, and what stands elsewhere."""
    probability, best = logits.softmax(0)[:-1].max(0)
    return (probability >= least).numpy(), own_row[best.numpy()], np.uint8(IGNORE)


def _single_rows(table: LabelTable) -> np.ndarray:
    """The row that stands for each class alone; IGNORE where there is none."""
    rows = np.full(len(table.classes), IGNORE, np.uint8)
    for row in range(table.void):
        members = np.flatnonzero(table.rows[row])
        if len(members) == 1:
            rows[members[0]] = row
    return rows
