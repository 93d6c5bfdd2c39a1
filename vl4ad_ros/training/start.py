"""Start weights out of a bundle's ONNX graph.

The export folds each batch norm into its convolution. Loaded, the convolution has the folded weights; the batch norm
gets the mean and deviation of what the convolution gives on some pictures, and the scale and shift that undo them. The
network is then the bundle's, and stays close to it when training takes the statistics of a batch instead.
"""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import onnx.numpy_helper
import torch
from torch import Tensor, nn

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.training.learner import DenseLearner

FOLDED = "_bias"
"""What the exporter adds to the name of a convolution's weight for the bias that a folded batch norm gives it."""


def load_start(learner: DenseLearner, bundle: ModelBundle, pictures: Tensor) -> None:
    """Fill a learner with a bundle's weights.

    Args:
        learner: a dense learner with a text head.
        bundle: its network has the same shapes.
        pictures: RGB [B,3,H,W], 0 to 255, from which batch norms take their statistics.

    Raises:
        Vl4adError: the bundle's network has other shapes or another text space.
    """
    stored = read_weights(bundle.onnx_path)
    norms = {name: module for name, module in learner.named_modules() if isinstance(module, nn.BatchNorm2d)}
    with torch.no_grad():
        for name, target in learner.state_dict(keep_vars=True).items():
            owner = name.rpartition(".")[0]
            if owner in norms or name in ("log_scale", "void", "class_vectors"):
                continue
            target.copy_(_fitting(stored, name, target, bundle))
        for name, norm in norms.items():
            parent, _, position = name.rpartition(".")
            norm.bias.copy_(_fitting(stored, f"{parent}.{int(position) - 1}.weight{FOLDED}", norm.bias, bundle))
            norm.weight.fill_(1).mul_(math.sqrt(1 + norm.eps))
            _statistics(norm)[0].zero_()
            _statistics(norm)[1].fill_(1)
        learner.void.copy_(_void(stored, learner.void, bundle))
        learner.log_scale.fill_(math.log(1 / bundle.card.temperature))
        settle_norms(learner, list(norms.values()), pictures)


def settle_norms(learner: DenseLearner, norms: list[nn.BatchNorm2d], pictures: Tensor) -> None:
    """Give batch norms the statistics of what reaches them, without changing what they do with running ones."""

    def settle(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        mean, variance = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), unbiased=False)
        old_mean, old_variance = _statistics(norm)
        scale = norm.weight / torch.sqrt(old_variance + norm.eps)
        shift = norm.bias - old_mean * scale
        norm.weight.copy_(scale * torch.sqrt(variance + norm.eps))
        norm.bias.copy_(shift + mean * scale)
        old_mean.copy_(mean)
        old_variance.copy_(variance)

    training = learner.training
    learner.eval()
    hooks = [norm.register_forward_pre_hook(settle) for norm in norms]
    learner.network(pictures)
    for hook in hooks:
        hook.remove()
    learner.train(training)


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


def read_weights(path: Path) -> dict[str, Tensor]:
    """The named constants of an ONNX graph."""
    graph = onnx.load(str(path)).graph
    return {item.name: torch.from_numpy(onnx.numpy_helper.to_array(item).copy()) for item in graph.initializer}


def _fitting(stored: dict[str, Tensor], name: str, target: Tensor, bundle: ModelBundle) -> Tensor:
    value = stored.get(name)
    if value is None or value.shape != target.shape:
        found = "is missing" if value is None else f"has the shape {tuple(value.shape)}"
        raise Vl4adError(
            f"model.start: the bundle '{bundle.card.name}' is no start for this network: '{name}' {found}, "
            f"expected {tuple(target.shape)}"
        )
    return value


def _void(stored: dict[str, Tensor], target: Tensor, bundle: ModelBundle) -> Tensor:
    """The void vector: the graph's only constant that is one row of the text space."""
    rows = [value for value in stored.values() if value.shape == (1, len(target)) and value.is_floating_point()]
    if len(rows) != 1:
        raise Vl4adError(f"model.start: the bundle '{bundle.card.name}' has {len(rows)} void vectors, expected 1")
    return rows[0][0]
