"""The gradients of a first step, for one process or, as a script under torchrun, for each of several: DATA, OUTPUT."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    ROOT = Path(__file__).resolve().parents[1]
    sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import torch
from tiny_run import make_config, make_trainer
from torch.utils.data import default_collate

from vl4ad_ros.training.processes import Group, join_group

BATCH = 4


def one_step(data: Path, output: Path, group: Group) -> dict[str, torch.Tensor]:
    """Gradients, running statistics, and the loss."""
    torch.set_num_threads(1)
    trainer = make_trainer(make_config(data, output, batch=BATCH), group)
    samples = [trainer.data.samples[index] for index in range(group.rank, BATCH, group.size)]
    # Double precision: what is left are differences of the method, not of the order of sums.
    trainer.learner.double().train()
    loss, figures = trainer.loss(default_collate(samples), 0)
    torch.autograd.backward(loss)
    group.sum_gradients(trainer.learner)
    found = {name: p.grad for name, p in trainer.learner.named_parameters() if p.grad is not None}
    found |= {name: value for name, value in trainer.learner.named_buffers() if "running" in name}
    return {**found, "loss": torch.tensor(figures["loss"])}


if __name__ == "__main__":
    group = join_group()
    torch.save(one_step(Path(sys.argv[1]), Path(sys.argv[2]), group), Path(sys.argv[2]) / f"rank{group.rank}.pt")
