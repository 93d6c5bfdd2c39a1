"""Learning rate, parameter groups, averaged weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from vl4ad_ros.training.config import Optimizer


def rate_factor(step: int, settings: Optimizer) -> float:
    """Factor on the learning rate of step number `step` (0-based): linear up, constant, poly or cosine down to 0."""
    up = (step + 1) / settings.warmup if settings.warmup else 1.0
    left = (settings.steps - step) / settings.cooldown if settings.cooldown else 1.0
    left = min(1.0, max(0.0, left))
    down = (1 - math.cos(math.pi * left)) / 2 if settings.descent == "cosine" else left**settings.power
    return min(1.0, up, down)


def make_optimizer(learner: nn.Module, settings: Optimizer) -> torch.optim.AdamW:
    """AdamW; the encoder has its own rate, vectors and biases no weight decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in learner.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("network.encoder."), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    rates = {True: settings.encoder_rate, False: settings.rate}
    decays = {True: settings.weight_decay, False: 0.0}
    return torch.optim.AdamW(
        [
            {"params": groups[key], "lr": rates[key[0]], "base_rate": rates[key[0]], "weight_decay": decays[key[1]]}
            for key in sorted(groups)
        ]
    )


def make_average(learner: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of a learner's weights and statistics; it moves faster in the first steps."""

    def move(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        return averaged.lerp(current, share) if averaged.is_floating_point() else current

    return AveragedModel(learner, avg_fn=move, use_buffers=True).eval().requires_grad_(False)
