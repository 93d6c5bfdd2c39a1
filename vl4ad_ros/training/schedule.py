"""Learning rate, parameter groups, averaged weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from vl4ad_ros.training.config import Optimizer
from vl4ad_ros.training.objective import Learner


def rate_factor(step: int, settings: Optimizer) -> float:
    """Factor on the learning rate of step number `step` (0-based): linear up, constant, poly or cosine down to 0."""
    up = (step + 1) / settings.warmup if settings.warmup else 1.0
    left = (settings.steps - step) / settings.cooldown if settings.cooldown else 1.0
    left = min(1.0, max(0.0, left))
    down = (1 - math.cos(math.pi * left)) / 2 if settings.descent == "cosine" else left**settings.power
    return min(1.0, up, down)


def make_optimizer(learner: Learner, settings: Optimizer) -> torch.optim.AdamW:
    """AdamW; the encoder has its own rate, vectors and biases no weight decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in learner.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("network.encoder."), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": settings.encoder_rate if encoder else settings.rate,
                "base_rate": settings.encoder_rate if encoder else settings.rate,
                "weight_decay": settings.weight_decay if matrix else 0.0,
            }
            for (encoder, matrix), parameters in sorted(groups.items())
        ]
    )


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Scale every group's own rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_rate"] * factor


class Averaged:
    """Exponential moving average of a learner's weights and statistics.

    Attributes:
        learner: the averaged copy, in evaluation mode.
    """

    def __init__(self, learner: Learner, decay: float) -> None:
        self.learner = copy.deepcopy(learner).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, learner: Learner, step: int) -> None:
        """Move towards the learner; faster in the first steps, when there is little to average."""
        decay = min(self._decay, (1 + step) / (10 + step))
        own, new = self.learner.state_dict(), learner.state_dict()
        for name, value in own.items():
            if value.dtype.is_floating_point:
                value.lerp_(new[name], 1 - decay)
            else:
                value.copy_(new[name])
