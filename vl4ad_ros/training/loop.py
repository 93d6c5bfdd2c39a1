"""The training loop: steps, rates, checkpoints, validation; resumes exactly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.training.checkpoint import BEST, LAST, Checkpoint, load_checkpoint, save_checkpoint
from vl4ad_ros.training.config import TrainConfig
from vl4ad_ros.training.data import RunData
from vl4ad_ros.training.objective import Learner, make_objective
from vl4ad_ros.training.processes import Group
from vl4ad_ros.training.schedule import Averaged, make_optimizer, rate_factor, set_rate
from vl4ad_ros.training.stream import Sample, SampleStream
from vl4ad_ros.training.synced_norm import synchronise
from vl4ad_ros.training.text import TextTable
from vl4ad_ros.training.validate import validate
from vl4ad_ros.training.validation_scenes import ValidationScene, generate_scenes

FREE = ("output", "data_root", "workers", "checkpoint_minutes", "validation", "export")
FREE_RATES = ("steps", "cooldown")
"""Sections of the configuration, and keys of its optimizer, that may change on resume."""

CONCEPT_DROPOUT = 0.6
"""Share of the steps in which a random part of each class's concepts is left out."""

Listener = Callable[[int, dict[str, float]], None]


class _StepOrder(Sampler[list[int]]):
    """Sample numbers of this process, step by step from `start`."""

    def __init__(self, start: int, steps: int, batch: int, group: Group) -> None:
        self._start, self._steps, self._batch, self._group = start, steps, batch, group

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self._start, self._steps):
            first = step * self._batch
            yield list(range(first + self._group.rank, first + self._batch, self._group.size))

    def __len__(self) -> int:
        return self._steps - self._start


def fixed_setup(config: TrainConfig) -> dict[str, Any]:
    """What must be the same on resume: all that changes samples, network or losses; not steps, times and paths."""
    plain = config.model_dump(mode="json", exclude=set(FREE))
    for name in FREE_RATES:
        plain["optimizer"].pop(name)
    return plain


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with what `over` has, section by section; a section that `over` has lacks what it does not name."""
    merged = {**base, **over}
    if "optimizer" in over:
        kept = {name: base["optimizer"][name] for name in FREE_RATES}
        merged["optimizer"] = {**over["optimizer"], **kept}
    return {name: value for name, value in merged.items() if name in over or name in FREE}


@dataclass
class Trainer:
    """One run.

    Attributes:
        config: settings.
        data: frames and objects.
        text: frozen texts.
        learner: what is trained.
        group: the processes.
        listener: called after each step and validation with figures (progress, TensorBoard).
        device: where the network is.
        window: the listener's figures since its last line; kept in checkpoints, so that a resumed curve has the same.
    """

    config: TrainConfig
    data: RunData
    text: TextTable
    learner: Learner
    group: Group = field(default_factory=Group)
    listener: Listener | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    window: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = self.config.optimizer
        # Typed stubs of `to` do not know the memory format of a whole module.
        self.learner = self.learner.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.group.size > 1:
            synchronise(self.learner)
        self.optimizer = make_optimizer(self.learner, settings)
        self.averaged = Averaged(self.learner, settings.ema)
        self.step = 0
        self.seconds = 0.0
        self.best = (-1.0, 0)
        self._objective = make_objective(self.config, self.data, self.text)
        self._scenes: list[ValidationScene] | None = None

    def resume(self) -> bool:
        """Go on from the run's last checkpoint, if there is one.

        Raises:
            Vl4adError: the checkpoint was made with other settings.
        """
        path = self.config.output / LAST
        if not path.is_file():
            return False
        state = load_checkpoint(path)
        # The stored settings are read through the schema: keys that are newer than the checkpoint get their defaults.
        stored = TrainConfig.model_validate(_merged(self.config.model_dump(mode="json"), state.setup))
        setup, before = fixed_setup(self.config), fixed_setup(stored)
        changed = [key for key in setup if setup[key] != before[key]]
        if changed:
            raise Vl4adError(
                f"{path} was made with other settings of '{changed[0]}'; use another 'output', or delete the checkpoint"
            )
        self.learner.load_state_dict(state.learner)
        self.averaged.learner.load_state_dict(state.averaged)
        self.optimizer.load_state_dict(state.optimizer)
        self.window.clear()
        self.window.update(state.window)
        self.step, self.best, self.seconds = state.step, (state.best[0], state.best[1]), state.seconds
        return True

    def loss(self, sample: Sample, step: int) -> tuple[Tensor, dict[str, float]]:
        """The step's loss and its terms: sums of this process's part, divided by the weights of all."""
        random = np.random.default_rng([self.config.seed, 3, step])
        class_concepts = self.text.class_concepts(random if random.random() < CONCEPT_DROPOUT else None)
        # The points that mask losses sample; the same on every resume.
        torch.manual_seed(self.config.seed * 1_000_003 + step * self.group.size + self.group.rank)
        image, rows, weights, names = (part.to(self.device) for part in sample)
        mixed = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
            terms = self._objective.terms(self.learner, (image, rows, weights, names), class_concepts)
        loss = torch.zeros((), device=self.device)
        figures: dict[str, float] = {}
        for name, (factor, term) in terms.items():
            mean = term.total / self.group.total(term.weight).clamp(min=1.0)
            loss = loss + factor * mean
            figures[f"loss/{name}"] = float(self.group.total(mean))
        figures["loss"] = float(self.group.total(loss))
        return loss, figures

    def train_step(self, sample: Sample) -> dict[str, float]:
        """One step of the optimizer."""
        settings = self.config.optimizer
        self.learner.train()
        set_rate(self.optimizer, rate_factor(self.step, settings))
        self.optimizer.zero_grad(set_to_none=True)
        loss, figures = self.loss(sample, self.step)
        loss.backward()
        self.group.sum_gradients(self.learner)
        norm = torch.nn.utils.clip_grad_norm_(self.learner.parameters(), settings.clip)
        if not torch.isfinite(norm):
            raise Vl4adError(f"training diverged at step {self.step}: the gradient is not finite; lower optimizer.rate")
        self.optimizer.step()
        self.averaged.update(self.learner, self.step)
        self.step += 1
        figures["gradient_norm"] = float(norm)
        figures["temperature"] = self.learner.temperature
        return figures

    def run(self) -> None:
        """Train to the last step, with checkpoints and validations; the last step is validated and saved."""
        config = self.config
        loader = DataLoader(
            SampleStream(self.data.maker),
            batch_sampler=_StepOrder(self.step, config.optimizer.steps, config.batch, self.group),
            num_workers=config.workers,
            prefetch_factor=3 if config.workers else None,
        )
        last_save = last_validation = started = time.monotonic()
        before = self.seconds
        for sample in loader:
            figures = self.train_step(sample)
            now = time.monotonic()
            self.seconds = before + now - started
            figures["images_per_second"] = config.batch * self.step / max(self.seconds, 1e-9)
            self._tell(figures)
            finished = self.step == config.optimizer.steps
            # Times differ between processes: the first one decides for all.
            waits = torch.tensor([now - last_validation, now - last_save]) * float(self.group.rank == 0)
            limits = torch.tensor([60 * config.validation.minutes, 60 * config.checkpoint_minutes])
            validation_due, save_due = (self.group.total(waits) > limits).tolist()
            if validation_due or finished:
                self.validate()
                last_validation = time.monotonic()
            if save_due or validation_due or finished:
                self.save({}, LAST)
                last_save = time.monotonic()

    def validate(self) -> dict[str, float]:
        """Figures of the averaged weights; the best so far are kept."""
        settings = self.config.validation
        if self.group.rank != 0:
            return {}
        if self._scenes is None:
            self._scenes = generate_scenes(self.data, settings, self.config.seed)
        figures = validate(self.averaged.learner, self.data, settings, self.text, self._scenes)
        self._tell(figures)
        if figures["choice"] > self.best[0]:
            self.best = (figures["choice"], self.step)
            self.save(figures, BEST)
        return figures

    def save(self, figures: dict[str, float], name: str) -> None:
        """Write a checkpoint into the run's folder."""
        if self.group.rank == 0:
            state = Checkpoint(
                self.step,
                self.learner.state_dict(),
                self.averaged.learner.state_dict(),
                self.optimizer.state_dict(),
                self.best,
                self.seconds,
                figures,
                fixed_setup(self.config),
                self.window,
            )
            save_checkpoint(state, Path(self.config.output) / name)

    def _tell(self, figures: dict[str, float]) -> None:
        if self.listener is not None and self.group.rank == 0:
            self.listener(self.step, figures)
