"""Fixtures of the training tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra train is not installed")

import torch
from tiny_run import make_config, make_trainer, write_data
from toy_text import ToyEncoder

from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.training import export
from vl4ad_ros.training.checkpoint import BEST
from vl4ad_ros.training.data import RunData, load_data
from vl4ad_ros.training.loop import Trainer


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up data set; read only."""
    return write_data(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_run_data(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> RunData:
    """The data of the plain configuration; read only."""
    return load_data(make_config(tiny_data, tmp_path_factory.mktemp("loaded")))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> tuple[Trainer, ModelBundle]:
    """A run of a few steps and its bundle; read only."""
    trainer = make_trainer(make_config(tiny_data, tmp_path_factory.mktemp("trained")))
    trainer.run()
    trainer.save({"choice": 0.5}, BEST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "create_encoder", lambda *_: ToyEncoder())
        return trainer, ModelBundle.load(export.export_best(trainer.config, trainer.data, trainer.text))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order: training steps are then equal to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
