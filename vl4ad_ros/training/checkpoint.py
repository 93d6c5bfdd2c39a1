"""Checkpoints: everything that a run needs to go on exactly where it was."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vl4ad_ros.io.checked import validate
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import atomic_write
from vl4ad_ros.training.config import TrainConfig

LAST, BEST = "last.pt", "best.pt"
FORMAT = "vl4ad_ros.training/1"

FREE = ("output", "data_root", "workers", "checkpoint_minutes", "validation", "export")
FREE_RATES = ("steps", "cooldown")
"""Sections of the configuration, and keys of its optimizer, that may change on resume."""


@dataclass(frozen=True)
class Checkpoint:
    """State of a run after `step` steps."""

    step: int
    learner: dict[str, Any]
    averaged: dict[str, Any]
    optimizer: dict[str, Any]
    best: tuple[float, int]  # highest choice figure so far, and its step
    seconds: float
    figures: dict[str, float]  # validation figures at this step, where it was validated
    setup: dict[str, Any]  # the part of the configuration that must not change on resume, as plain data
    # Figures since the last line of the curve; empty in checkpoints from before they were kept.
    window: dict[str, list[float]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write it so that a kill at any time leaves a whole file."""
        with atomic_write(path) as part:
            try:
                torch.save({"format": FORMAT, **vars(self)}, part)
            except RuntimeError as error:  # what torch makes of a full disk
                raise OSError(str(error)) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; only tensors and plain data, no code."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        raise Vl4adError(f"{path}: unreadable checkpoint ({type(error).__name__}); delete it to start anew") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise Vl4adError(f"{path} is not a training checkpoint of this version")
    return Checkpoint(**content)


def fixed_setup(config: TrainConfig) -> dict[str, Any]:
    """What must be the same on resume: all that changes samples, network or losses; not steps, times and paths."""
    return config.model_dump(mode="json", exclude={**dict.fromkeys(FREE, True), "optimizer": set(FREE_RATES)})


def check_setup(config: TrainConfig, setup: dict[str, Any], path: Path) -> None:
    """Compare a run's settings with those of a checkpoint; keys that are newer than it have their defaults."""
    own = config.model_dump(mode="json")
    rates = {name: own["optimizer"][name] for name in FREE_RATES}
    stored = {name: own[name] for name in FREE} | setup | {"optimizer": setup["optimizer"] | rates}
    now, before = fixed_setup(config), fixed_setup(validate(TrainConfig, stored, path))
    changed = [key for key in now if now[key] != before[key]]
    if changed:
        raise Vl4adError(
            f"{path} was made with other settings of '{changed[0]}'; use another 'output', or delete the checkpoint"
        )
