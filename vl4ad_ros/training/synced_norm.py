"""Batch norm over all processes, on any device (torch's own SyncBatchNorm needs GPUs)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose training statistics are those of the whole batch, over all processes."""

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
        if isinstance(child, nn.BatchNorm2d) and not isinstance(child, SyncedBatchNorm2d):
            synced = SyncedBatchNorm2d(child.num_features, child.eps, child.momentum or 0.1)
            synced.load_state_dict(child.state_dict())
            setattr(module, name, synced)
        else:
            synchronise(child)
