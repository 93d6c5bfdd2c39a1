from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import SHAPE, make_config, make_text, make_trainer
from toy_text import ToyEncoder

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.training import export
from vl4ad_ros.training.checkpoint import BEST
from vl4ad_ros.training.data import load_data
from vl4ad_ros.training.fill import fill_unlabelled
from vl4ad_ros.training.label_tables import IGNORE
from vl4ad_ros.training.learner import DenseLearner
from vl4ad_ros.training.loop import Trainer
from vl4ad_ros.training.objective import make_learner
from vl4ad_ros.training.start import load_start


@pytest.fixture
def trained(tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Trainer, ModelBundle]:
    """A run of a few steps and its bundle."""
    monkeypatch.setattr(export, "create_encoder", lambda *_: ToyEncoder())
    trainer = make_trainer(make_config(tiny_data, tmp_path / "first"))
    trainer.run()
    trainer.save({"choice": 0.5}, BEST)
    return trainer, ModelBundle.load(export.export_best(trainer.config, trainer.data, trainer.text))


def pictures(count: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).integers(0, 256, (count, 3, *SHAPE))).float()


def test_a_start_is_the_bundle_s_network_and_can_be_trained(
    tmp_path: Path, tiny_data: Path, trained: tuple[Trainer, ModelBundle]
) -> None:
    first, bundle = trained
    config = make_config(tiny_data, tmp_path / "second", seed=5)
    data = load_data(config)
    learner = make_learner(config, make_text(data), data.table.classes)
    assert isinstance(learner, DenseLearner)
    load_start(learner, bundle, pictures(4))
    assert learner.training
    learner.eval()
    concepts = data.all_concepts()
    with torch.no_grad():
        wanted = first.averaged.learner.dense_logits(pictures(2), concepts)
        assert torch.allclose(learner.dense_logits(pictures(2), concepts), wanted, atol=1e-3)
        # With the statistics of the pictures that it was loaded with, training mode is the same network.
        still = learner.dense_logits(pictures(4), concepts)
        learner.train()
        assert (learner.dense_logits(pictures(4), concepts) - still).abs().mean() < 0.05
    assert learner.temperature == pytest.approx(first.averaged.learner.temperature, rel=1e-5)


def test_a_bundle_of_other_sizes_is_no_start(
    tmp_path: Path, tiny_data: Path, trained: tuple[Trainer, ModelBundle]
) -> None:
    model = {"embed_dim": 24, "width": 16, "encoder_weights": "random", "freeze_stages": 0}
    config = make_config(tiny_data, tmp_path / "second", model=model)
    data = load_data(config)
    learner = make_learner(config, make_text(data), data.table.classes)
    assert isinstance(learner, DenseLearner)
    with pytest.raises(Vl4adError, match=r"'tiny' is no start .*'network\.\w+\.weight' has the shape .*expected"):
        load_start(learner, trained[1], pictures(2))


def test_unlabelled_pixels_get_the_class_that_the_start_is_sure_of(tmp_path: Path, tiny_data: Path) -> None:
    table = {"1": "road", "2": "car"}
    sets = [{"name": "tiny", "root": "frames", "classes": table, "ignore": [0, 255], "fill": 0.5}]

    config = make_config(tiny_data, tmp_path, datasets=sets)
    data, other = load_data(config), load_data(config)
    road = data.table.classes.index("road")

    class Sure(DenseLearner):
        """Certain of road in the left half; in doubt in the right one."""

        def dense_logits(self, image: torch.Tensor, class_concepts: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(1, 5, image.shape[2] // 8, image.shape[3] // 8)
            logits[:, road, :, : logits.shape[3] // 2] = 9
            return logits

    learner = Sure(config.model, make_text(data))
    before = [rows.copy() for rows in data.maker.sets[0].rows]
    filled = fill_unlabelled(config, data, learner, "start")
    assert filled > 0
    for rows, old in zip(data.maker.sets[0].rows, before, strict=True):
        empty = old == IGNORE
        half = np.arange(rows.shape[1]) < rows.shape[1] // 2
        assert (rows[~empty] == old[~empty]).all()
        assert (rows[empty & half] == data.table.lookup[0][1]).all()
        assert (rows[empty & ~half] == IGNORE).all()
    # A second start of the run takes what the first one found.
    learner.dense_logits = None  # type: ignore[assignment, method-assign]
    assert fill_unlabelled(config, other, learner, "start") == filled
