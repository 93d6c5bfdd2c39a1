from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny_run import make_text

from vl4ad_ros.network.small import SmallNetwork
from vl4ad_ros.training.config import Optimizer
from vl4ad_ros.training.data import RunData
from vl4ad_ros.training.dense_learner import DenseLearner, pixel_terms, union_log_probability
from vl4ad_ros.training.label_tables import IGNORE
from vl4ad_ros.training.schedule import make_average, rate_factor

# Classes a, b, c; rows: {a}, {b, c}, void.
MEMBERS = torch.tensor([[True, False, False], [False, True, True], [False, False, False]])


def test_union_is_the_sum_of_its_classes() -> None:
    log = torch.tensor([[0.5, 0.3, 0.2]]).log()
    assert union_log_probability(log, torch.tensor([[False, True, True]])).exp().item() == pytest.approx(0.5)


def one_pixel(logits: list[float], row: int) -> tuple[float, float]:
    maps = torch.tensor(logits).reshape(1, 1, 1, 4)
    rows = torch.full((1, 2, 2), row, dtype=torch.uint8)
    opened, closed = pixel_terms(maps, rows, torch.ones(1, 2, 2), MEMBERS, torch.tensor([1.0, 2.0, 1.0]))
    assert opened.weight.item() == 4 * (2.0 if row == 1 else 1.0)
    return (opened.total / opened.weight).item(), (closed.total / closed.weight).item()


def test_pixel_terms_by_hand() -> None:
    logits = [math.log(0.1), math.log(0.2), math.log(0.3), math.log(0.4)]
    opened, closed = one_pixel(logits, 1)
    assert opened == pytest.approx(-math.log(0.5), abs=1e-5)
    assert closed == pytest.approx(-math.log(0.5 / 0.6), abs=1e-5)
    opened, closed = one_pixel(logits, 2)
    assert opened == pytest.approx(-math.log(0.4), abs=1e-5)
    assert closed == pytest.approx(-sum(math.log(p / 0.6) for p in (0.1, 0.2, 0.3)) / 3, abs=1e-5)


def test_ignored_pixels_have_no_gradient() -> None:
    logits = torch.randn(1, 2, 2, 4, requires_grad=True)
    rows = torch.full((1, 4, 4), IGNORE, dtype=torch.uint8)
    rows[:, :, :1] = 0
    opened, closed = pixel_terms(logits, rows, torch.ones(1, 4, 4), MEMBERS, torch.ones(3))
    torch.autograd.backward(opened.total + closed.total)
    assert logits.grad is not None
    assert logits.grad[:, :, 1].abs().max() == 0
    assert logits.grad[:, :, 0].abs().min() > 0


def test_low_rank_cosines_are_exact() -> None:
    network = SmallNetwork(text_dim=48, embed_dim=16, width=16)
    embedding, text = torch.randn(5, 16), torch.nn.functional.normalize(torch.randn(7, 48), dim=1)
    wide = torch.nn.functional.normalize(network.to_text(embedding), dim=1)
    assert torch.allclose(network.cosines(embedding, text), wide @ text.T, atol=1e-5)


def test_names_take_part_only_where_trained(tiny_run_data: RunData) -> None:
    learner = DenseLearner(tiny_run_data.samples.config, tiny_run_data, make_text(tiny_run_data))
    trained = tiny_run_data.train_names
    embedding, logits = torch.randn(1, 4, 4, 16), torch.zeros(1, 4, 4, 5)
    rows = torch.full((1, 8, 8), IGNORE, dtype=torch.uint8)
    names = torch.full((1, 4, 4), -1, dtype=torch.int16)
    rows[:, :2, :2], names[0, 0, 0] = tiny_run_data.table.void, trained[1]
    term = learner.name_term(embedding, logits, rows, names)
    assert term.weight.item() == 1
    scores = torch.cat([torch.zeros(4), learner.name_logits(embedding[0, 0, 0])[list(trained)]])
    assert term.total.item() == pytest.approx(-scores.log_softmax(0)[5].item(), abs=1e-4)


def test_rate_goes_up_stays_and_comes_down() -> None:
    settings = Optimizer(steps=100, warmup=10, cooldown=20)
    assert [round(rate_factor(step, settings), 3) for step in (0, 9, 50, 80, 90, 99)] == [0.1, 1, 1, 1, 0.5, 0.05]
    halfway: dict[str, dict[str, Any]] = {"line": {}, "poly": {"power": 0.9}, "cosine": {"descent": "cosine"}}
    factors = {name: rate_factor(85, settings.model_copy(update=change)) for name, change in halfway.items()}
    assert factors == pytest.approx({"line": 0.75, "poly": 0.75**0.9, "cosine": (1 + math.sqrt(0.5)) / 2})
    longer = settings.model_copy(update={"steps": 200})
    assert all(rate_factor(step, settings) == rate_factor(step, longer) for step in range(80))


def test_averaged_weights_follow_slower_and_slower() -> None:
    module = torch.nn.BatchNorm1d(1)
    average = make_average(module, 0.9)
    seen = []
    for value in range(200):
        module.load_state_dict({name: torch.full_like(t, value) for name, t in module.state_dict().items()})
        average.update_parameters(module)
        own = average.module.state_dict()
        seen.append(value - own["weight"].item())
        assert own["running_mean"].item() == pytest.approx(own["weight"].item())
    assert seen[0] == 0
    assert seen[1] < seen[5] < seen[-1]
    assert seen[-1] == pytest.approx(0.9 / (1 - 0.9), rel=0.05), "a ramp's delay at a constant decay"
