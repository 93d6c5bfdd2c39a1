"""Several processes (torchrun): who am I, sums over all, gradients as one process would have them."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Group:
    """The processes of a run.

    Attributes:
        rank: number of this one.
        size: how many there are.
        local_rank: number of this one on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    def total(self, value: Tensor) -> Tensor:
        """Sum of a value over all processes (without gradient)."""
        if self.size == 1:
            return value.detach()
        summed = value.detach().clone()
        dist.all_reduce(summed)
        return summed

    def sum_gradients(self, module: nn.Module) -> None:
        """Add up the gradients of all processes, in one message."""
        if self.size == 1:
            return
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        start = 0
        for parameter, gradient in zip(parameters, gradients, strict=True):
            part = flat[start : start + gradient.numel()].reshape(gradient.shape)
            parameter.grad = part.clone(memory_format=torch.preserve_format)
            start += gradient.numel()


def join_group() -> Group:
    """Join the processes that torchrun started; alone without it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Group()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return Group(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))
