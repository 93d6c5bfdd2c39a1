"""The training loop: steps, rates, checkpoints, validation; resumes exactly."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.training.checkpoint import BEST, LAST, Checkpoint, check_setup, fixed_setup, load_checkpoint
from vl4ad_ros.training.config import TrainConfig
from vl4ad_ros.training.data import RunData
from vl4ad_ros.training.learner import Learner, TextTable
from vl4ad_ros.training.processes import Group, synchronise
from vl4ad_ros.training.report import RunReport
from vl4ad_ros.training.schedule import make_average, make_optimizer, rate_factor
from vl4ad_ros.training.stream import Sample
from vl4ad_ros.training.validate import validate
from vl4ad_ros.training.validation_scenes import ValidationScene, generate_scenes

CONCEPT_DROPOUT = 0.6
"""Share of the steps in which a random part of each class's concepts is left out."""


@dataclass
class Trainer:
    """One run."""

    config: TrainConfig
    data: RunData
    text: TextTable
    learner: Learner
    report: RunReport  # takes the figures of each step and validation; only the first process's is used
    group: Group = field(default_factory=Group)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        settings = self.config.optimizer
        # Typed stubs of `to` do not know the memory format of a whole module.
        self.learner = self.learner.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.group.size > 1:
            synchronise(self.learner)
        self.optimizer = make_optimizer(self.learner, settings)
        self._average = make_average(self.learner, settings.ema)
        self.step = 0
        self.seconds = 0.0
        self.best = (-1.0, 0)
        self._scenes: list[ValidationScene] | None = None

    @property
    def averaged(self) -> Learner:
        """The learner with averaged weights, in evaluation mode."""
        return cast("Learner", self._average.module)

    def resume(self) -> bool:
        """Go on from the run's last checkpoint, if there is one."""
        path = self.config.output / LAST
        if not path.is_file():
            return False
        state = load_checkpoint(path)
        check_setup(self.config, state.setup, path)
        self.learner.load_state_dict(state.learner)
        self.averaged.load_state_dict(state.averaged)
        self._average.n_averaged.fill_(state.step)
        self.optimizer.load_state_dict(state.optimizer)
        self.report.window = state.window
        self.step, self.best, self.seconds = state.step, (state.best[0], state.best[1]), state.seconds
        return True

    def loss(self, sample: Sample, step: int) -> tuple[Tensor, dict[str, float]]:
        """The step's loss and its terms: sums of this process's part, divided by the weights of all."""
        random = np.random.default_rng([self.config.seed, 3, step])
        class_concepts = self.text.class_concepts(random if random.random() < CONCEPT_DROPOUT else None)
        # The points that mask losses sample; the same on every resume.
        torch.manual_seed(self.config.seed * 1_000_003 + step * self.group.size + self.group.rank)
        image, rows, weights, names = (part.to(self.device) for part in sample)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            terms = self.learner.terms((image, rows, weights, names), class_concepts.to(self.device))
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
        self.learner.train()
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_rate"] * rate_factor(self.step, self.config.optimizer)
        self.optimizer.zero_grad(set_to_none=True)
        loss, figures = self.loss(sample, self.step)
        torch.autograd.backward(loss)
        self.group.sum_gradients(self.learner)
        norm = torch.nn.utils.clip_grad_norm_(self.learner.parameters(), self.config.optimizer.clip)
        if not torch.isfinite(norm):
            raise Vl4adError(f"training diverged at step {self.step}: the gradient is not finite; lower optimizer.rate")
        self.optimizer.step()
        self._average.update_parameters(self.learner)
        self.step += 1
        return {**figures, "gradient_norm": float(norm), "temperature": self.learner.temperature}

    def run(self) -> None:
        """Train to the last step, with checkpoints and validations; the last step is validated and saved."""
        config, steps, batch = self.config, self.config.optimizer.steps, self.config.batch
        loader = DataLoader(
            self.data.samples,
            # Step by step, this process's share of the samples.
            batch_sampler=[
                list(range(step * batch + self.group.rank, (step + 1) * batch, self.group.size))
                for step in range(self.step, steps)
            ],
            num_workers=config.workers,
            prefetch_factor=3 if config.workers else None,
        )
        last_save = last_validation = time.monotonic()
        started = last_save - self.seconds
        for sample in loader:
            figures = self.train_step(sample)
            now = time.monotonic()
            self.seconds = now - started
            self._report({**figures, "images_per_second": batch * self.step / max(self.seconds, 1e-9)})
            # Times differ between processes: the first one decides for all.
            waits = torch.tensor([now - last_validation, now - last_save]) * float(self.group.rank == 0)
            limits = torch.tensor([60 * config.validation.minutes, 60 * config.checkpoint_minutes])
            validation_due, save_due = (self.group.total(waits.to(self.device)).cpu() > limits).tolist()
            if validation_due or self.step == steps:
                self.validate()
                last_validation = time.monotonic()
            if save_due or validation_due or self.step == steps:
                self.save({}, LAST)
                last_save = time.monotonic()

    def validate(self) -> dict[str, float]:
        """Figures of the averaged weights; the best so far are kept."""
        settings = self.config.validation
        if self.group.rank != 0:
            return {}
        if self._scenes is None:
            self._scenes = generate_scenes(self.data, settings, self.config.seed)
        figures = validate(self.averaged, self.data, settings, self._scenes)
        self._report(figures)
        if figures["choice"] > self.best[0]:
            self.best = (figures["choice"], self.step)
            self.save(figures, BEST)
        return figures

    def save(self, figures: dict[str, float], name: str) -> None:
        """Write a checkpoint into the run's folder."""
        if self.group.rank == 0:
            Checkpoint(
                self.step,
                self.learner.state_dict(),
                self.averaged.state_dict(),
                self.optimizer.state_dict(),
                self.best,
                self.seconds,
                figures,
                fixed_setup(self.config),
                self.report.window,
            ).save(self.config.output / name)

    def _report(self, figures: dict[str, float]) -> None:
        if self.group.rank == 0:
            self.report.listen(self.step, figures)
