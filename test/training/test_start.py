"""Starting from a bundle's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import SHAPE, SMALL, make_config, make_text

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.training.data import RunData, load_data
from vl4ad_ros.training.dense_learner import DenseLearner
from vl4ad_ros.training.label_tables import IGNORE
from vl4ad_ros.training.learner import Learner
from vl4ad_ros.training.loop import Trainer
from vl4ad_ros.training.start import fill_unlabelled, load_start, mix_with_start


def pictures(count: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).integers(0, 256, (count, 3, *SHAPE))).float()


def test_a_start_is_the_bundle_s_network_and_can_be_trained(
    tiny_run_data: RunData, trained: tuple[Trainer, ModelBundle]
) -> None:
    first, bundle = trained
    torch.manual_seed(5)
    learner = DenseLearner(tiny_run_data.samples.config, tiny_run_data, first.text)
    load_start(learner, bundle, pictures(4))
    assert learner.training
    learner.eval()
    concepts = first.text.class_concepts()
    with torch.no_grad():
        wanted = first.averaged.dense_logits(pictures(2), concepts)
        assert torch.allclose(learner.dense_logits(pictures(2), concepts), wanted, atol=1e-3)
        # With the statistics of the pictures that it was loaded with, training mode is the same network.
        still = learner.dense_logits(pictures(4), concepts)
        learner.train()
        assert (learner.dense_logits(pictures(4), concepts) - still).abs().mean() < 0.05
    assert learner.temperature == pytest.approx(first.averaged.temperature, rel=1e-5)


def test_weights_are_mixed_with_those_of_the_start(
    tiny_run_data: RunData, trained: tuple[Trainer, ModelBundle]
) -> None:
    first, bundle = trained
    torch.manual_seed(6)
    learner = DenseLearner(tiny_run_data.samples.config, tiny_run_data, first.text).eval()
    own, start = learner.temperature, first.averaged.temperature
    concepts = first.text.class_concepts()

    def logits(network: Learner) -> torch.Tensor:
        with torch.no_grad():
            return network.dense_logits(pictures(2), concepts)

    before = logits(learner)
    mix_with_start(learner, str(bundle.path), tiny_run_data.samples, 0.0)
    assert torch.equal(logits(learner), before)
    mix_with_start(learner, str(bundle.path), tiny_run_data.samples, 0.5)
    assert learner.temperature == pytest.approx((own * start) ** 0.5, rel=1e-4)
    mix_with_start(learner, str(bundle.path), tiny_run_data.samples, 1.0)
    assert torch.allclose(logits(learner), logits(first.averaged), atol=1e-3)


def test_a_bundle_of_other_sizes_is_no_start(
    tmp_path: Path, tiny_data: Path, tiny_run_data: RunData, trained: tuple[Trainer, ModelBundle]
) -> None:
    config = make_config(tiny_data, tmp_path, model={**SMALL, "embed_dim": 24})
    learner = DenseLearner(config, tiny_run_data, trained[0].text)
    with pytest.raises(Vl4adError, match=r"'tiny' is no start .*'network\.\w+\.weight' has the shape"):
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

    learner = Sure(config, data, make_text(data))
    before = [rows.copy() for rows in data.samples.sets[0].rows]
    filled = fill_unlabelled(config, data, learner, "start")
    assert filled > 0
    for rows, old in zip(data.samples.sets[0].rows, before, strict=True):
        empty = old == IGNORE
        half = np.arange(rows.shape[1]) < rows.shape[1] // 2
        assert (rows[~empty] == old[~empty]).all()
        assert (rows[empty & half] == data.table.lookup[0][1]).all()
        assert (rows[empty & ~half] == IGNORE).all()
    # A second start of the run takes what the first one found.
    learner.dense_logits = None  # type: ignore[assignment, method-assign]
    assert fill_unlabelled(config, other, learner, "start") == filled
