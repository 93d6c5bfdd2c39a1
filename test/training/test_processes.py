"""Several processes train like one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from gradient_run import one_step

from vl4ad_ros.training.processes import Group

SCRIPT = Path(__file__).parents[1] / "gradient_run.py"


def test_two_processes_have_the_gradient_of_one(tmp_path: Path, tiny_data: Path) -> None:
    # It finds a port by itself.
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, str(SCRIPT), str(tiny_data), str(tmp_path)]
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE) as process:
        alone = one_step(tiny_data, tmp_path, Group())
        _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    for rank in range(2):
        together = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        assert set(together) == set(alone)
        for name, value in together.items():
            scale = max(1e-3, float(alone[name].abs().max()))
            assert torch.allclose(value, alone[name], rtol=0, atol=1e-5 * scale), name
