"""Several processes (torchrun): sums over all, gradients and batch norms as one process would have them."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.utils import vector_to_parameters


@dataclass(frozen=True)
class Group:
    """The processes of a run."""

    rank: int = 0  # number of this one
    size: int = 1  # how many there are
    local_rank: int = 0  # number of this one on its machine

    def total(self, value: Tensor) -> Tensor:
        """Sum of a value over all processes (without gradient)."""
        summed = value.detach().clone()
        if self.size > 1:
            dist.all_reduce(summed)
        return summed

    def sum_gradients(self, module: nn.Module) -> None:
        """Add up the gradients of all processes, in one message."""
        if self.size == 1:
            return
        gradients = []
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                gradients.append(parameter.grad)
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        vector_to_parameters(flat, gradients)


def join_group() -> Group:
    """Join the processes that torchrun started; alone without it."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Group()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return Group(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with the statistics of all processes, on any device (torch's own SyncBatchNorm needs GPUs)."""

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,h,w] -> the same shape."""
        if not self.training:
            return super().forward(x)
        count = x.new_full((1,), x.numel() / x.shape[1])
        sums: Tensor = all_reduce(torch.cat([x.sum((0, 2, 3)), count]))
        number, mean = sums[-1], sums[:-1] / sums[-1]
        # A second pass: the difference of two large sums would cost half of the digits.
        centred = x - mean[:, None, None]
        variance: Tensor = all_reduce((centred * centred).sum((0, 2, 3))) / number
        if self.running_mean is not None and self.running_var is not None and self.momentum is not None:
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * number / (number - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale[:, None, None] + self.bias[:, None, None]


def synchronise(module: nn.Module) -> None:
    """Replace every batch norm inside a module, in place; weights and their names stay."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            synced = SyncedBatchNorm2d(child.num_features, child.eps, child.momentum or 0.1)
            synced.load_state_dict(child.state_dict())
            setattr(module, name, synced)
        else:
            synchronise(child)
