from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import make_config, make_text

from vl4ad_ros.network.small import SmallNetwork
from vl4ad_ros.training.config import Optimizer
from vl4ad_ros.training.data import load_data
from vl4ad_ros.training.label_tables import IGNORE
from vl4ad_ros.training.learner import DenseLearner
from vl4ad_ros.training.losses import name_term, pixel_terms, union_log_probability
from vl4ad_ros.training.objective import make_learner
from vl4ad_ros.training.schedule import rate_factor

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


def test_names_take_part_only_where_trained(tmp_path: Path, tiny_data: Path) -> None:
    config = make_config(tiny_data, tmp_path)
    data = load_data(config)
    learner = make_learner(config, make_text(data), data.table.classes)
    assert isinstance(learner, DenseLearner)
    embedding = torch.randn(1, 4, 4, 16, requires_grad=True)
    logits = torch.zeros(1, 4, 4, 5)
    rows = torch.full((1, 8, 8), IGNORE, dtype=torch.uint8)
    names = torch.full((1, 4, 4), -1, dtype=torch.int16)
    rows[:, :2, :2], names[0, 0, 0] = data.table.void, 1
    members = torch.from_numpy(data.table.rows)
    term = name_term(learner, embedding, logits, rows, names, members, torch.tensor([True, True, False]))
    assert term.weight.item() == 1
    scores = torch.cat([torch.zeros(4), learner.name_logits(embedding[0, 0, 0])[:2]])
    assert term.total.item() == pytest.approx(-scores.log_softmax(0)[5].item(), abs=1e-4)


def test_rate_goes_up_stays_and_comes_down() -> None:
    settings = Optimizer(steps=100, warmup=10, cooldown=20)
    assert [round(rate_factor(step, settings), 3) for step in (0, 9, 50, 80, 90, 99)] == [0.1, 1, 1, 1, 0.5, 0.05]
    halfway: dict[str, dict[str, Any]] = {"line": {}, "poly": {"power": 0.9}, "cosine": {"descent": "cosine"}}
    factors = {name: rate_factor(85, settings.model_copy(update=change)) for name, change in halfway.items()}
    assert factors == pytest.approx({"line": 0.75, "poly": 0.75**0.9, "cosine": (1 + math.sqrt(0.5)) / 2})
    longer = settings.model_copy(update={"steps": 200})
    assert all(rate_factor(step, settings) == rate_factor(step, longer) for step in range(80))
