"""Checkpoints: everything that a run needs to go on exactly where it was."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vl4ad_ros.io.errors import Vl4adError

LAST, BEST = "last.pt", "best.pt"
FORMAT = "vl4ad_ros.training/1"


@dataclass(frozen=True)
class Checkpoint:
    """State of a run after `step` steps.

    Attributes:
        step: steps done.
        learner: weights.
        averaged: averaged weights.
        optimizer: its state.
        best: highest choice figure so far, and its step.
        seconds: training time so far.
        figures: validation figures at this step, where it was validated.
        setup: the part of the configuration that must not change on resume, as plain data.
        window: figures since the last line of the curve; empty in checkpoints from before they were kept.
    """

    step: int
    learner: dict[str, Any]
    averaged: dict[str, Any]
    optimizer: dict[str, Any]
    best: tuple[float, int]
    seconds: float
    figures: dict[str, float]
    setup: dict[str, Any]
    window: dict[str, list[float]] = field(default_factory=dict)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint so that a kill at any time leaves a whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save({"format": FORMAT, **vars(checkpoint)}, part)
    part.replace(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; only tensors and plain data, no code.

    Raises:
        Vl4adError: the file is no checkpoint of this project.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        raise Vl4adError(f"{path}: unreadable checkpoint ({type(error).__name__}); delete it to start anew") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise Vl4adError(f"{path} is not a training checkpoint of this version")
    return Checkpoint(**content)
