"""Starting from a bundle: its weights out of the ONNX graph, and labels for pixels that have none (self-training).

The export folds each batch norm into its convolution. Loaded, the batch norm gets the mean and deviation of what the
convolution gives on some pictures, and the scale and shift that undo them: the network is the bundle's, and stays close
to it when training takes the statistics of a batch.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import onnx
import onnx.numpy_helper
import torch
from torch import Tensor, nn

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import sha256_text
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.training.augment import UInt8
from vl4ad_ros.training.config import TrainConfig
from vl4ad_ros.training.data import RunData
from vl4ad_ros.training.dense_learner import DenseLearner
from vl4ad_ros.training.frames import read_cache, write_cache
from vl4ad_ros.training.label_tables import IGNORE
from vl4ad_ros.training.learner import Learner
from vl4ad_ros.training.stream import SampleStream
from vl4ad_ros.training.validate import logits_of

FOLDED = "_bias"
"""What the exporter adds to the name of a convolution's weight for the bias that a folded batch norm gives it."""


START_PICTURES = 16
"""Samples from which the start network's batch norms take their statistics."""


def start_from(learner: DenseLearner, name: str, samples: SampleStream) -> ModelBundle:
    """Fill a learner with the weights of a bundle, by name or folder, which is returned.

    Raises:
        Vl4adError: the bundle is missing or damaged, or its network has other shapes or another text space.
    """
    bundle = ModelBundle.load(name)
    images = np.stack([samples.scene(index).image for index in range(START_PICTURES)])
    load_start(learner, bundle, torch.from_numpy(images).permute(0, 3, 1, 2).float())
    return bundle


def mix_with_start(learner: DenseLearner, name: str, samples: SampleStream, share: float) -> None:
    """Replace a learner's weights by the mean of them and those of the bundle that it started from, of this share."""
    trained = {key: value.clone() for key, value in learner.state_dict().items()}
    start_from(learner, name, samples)
    start = learner.state_dict()
    for key, value in trained.items():
        if value.is_floating_point():
            value.lerp_(start[key], share)
    learner.load_state_dict(trained)
    learner.eval()


def load_start(learner: DenseLearner, bundle: ModelBundle, pictures: Tensor) -> None:
    """Fill a learner with a bundle's weights; batch norms take their statistics from pictures [B,3,H,W], 0 to 255."""
    graph = onnx.load(str(bundle.onnx_path)).graph
    stored = {item.name: torch.from_numpy(onnx.numpy_helper.to_array(item).copy()) for item in graph.initializer}

    def fill(target: Tensor, name: str) -> None:
        value = stored.get(name)
        if value is None or value.shape != target.shape:
            found = "is missing" if value is None else f"has the shape {tuple(value.shape)}"
            raise Vl4adError(
                f"model.start: the bundle '{bundle.card.name}' is no start for this network: '{name}' {found}, "
                f"expected {tuple(target.shape)}"
            )
        target.copy_(value)

    norms = {name: module for name, module in learner.named_modules() if isinstance(module, nn.BatchNorm2d)}
    own = ("log_scale", "void", "class_vectors", "name_vectors")
    with torch.no_grad():
        for name, target in learner.state_dict(keep_vars=True).items():
            if name.rpartition(".")[0] not in norms and name not in own:
                fill(target, name)
        for name, norm in norms.items():
            parent, _, position = name.rpartition(".")
            norm.reset_running_stats()
            norm.weight.fill_(math.sqrt(1 + norm.eps))
            fill(norm.bias, f"{parent}.{int(position) - 1}.weight{FOLDED}")
        # The void vector is the graph's only constant that is one row of the text space.
        shape = (1, len(learner.void))
        rows = [value for value in stored.values() if value.shape == shape and value.is_floating_point()]
        if len(rows) != 1:
            raise Vl4adError(f"model.start: the bundle '{bundle.card.name}' has {len(rows)} void vectors, expected 1")
        learner.void.copy_(rows[0][0])
        learner.log_scale.fill_(math.log(1 / bundle.card.temperature))
        hooks = [norm.register_forward_pre_hook(_settle) for norm in norms.values()]
        learner.eval().network(pictures)
    for hook in hooks:
        hook.remove()
    learner.train()


def _settle(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    """Give a batch norm the statistics of what reaches it, without changing what it does with running ones."""
    assert isinstance(norm, nn.BatchNorm2d)
    running_mean, running_variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    mean, variance = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), unbiased=False)
    scale = norm.weight / torch.sqrt(running_variance + norm.eps)
    norm.bias.add_((mean - running_mean) * scale)
    norm.weight.copy_(scale * torch.sqrt(variance + norm.eps))
    running_mean.copy_(mean)
    running_variance.copy_(variance)


def fill_unlabelled(config: TrainConfig, data: RunData, learner: Learner, source: str) -> int:
    """Give unlabelled pixels of the sets with `fill` < 1 the class that the network is sure of; in place.

    What was found is kept in the run's cache; `source` identifies the network. Returns the number of such pixels.
    """
    single, pixels = data.table.single_rows(), config.validation.pixels

    def guess(image: UInt8, minimum: float) -> UInt8:
        probability, best = logits_of(learner, image, pixels).softmax(0)[:-1].max(0)
        return np.where(probability.numpy() >= minimum, single[best.numpy()], IGNORE).astype(np.uint8)

    filled = 0
    for spec, frames in zip(config.datasets, data.samples.sets, strict=True):
        if spec.fill == 1:
            continue
        described = f"{source} {spec.model_dump_json()} {pixels} {data.table.rows.tolist()}"
        file = config.output / "cache" / f"fill-{sha256_text(described)[:12]}.npz"
        guesses = read_cache(file, len(frames))
        if guesses is None:
            guesses = [guess(image, spec.fill) for image in frames.images]
            write_cache(file, guesses)
        for guessed, rows in zip(guesses, frames.rows, strict=True):
            height, width = rows.shape
            ys = np.arange(height) * guessed.shape[0] // height
            xs = np.arange(width) * guessed.shape[1] // width
            empty = rows == IGNORE
            rows[empty] = guessed[np.ix_(ys, xs)][empty]
            filled += int((rows[empty] != IGNORE).sum())
    return filled
