"""Text-only training: prompts in, a feed-forward network out (needs PyTorch, the `training` extra)."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vl4ad_ros import __version__
from vl4ad_ros.evaluation.pixel_metrics import PixelMetrics
from vl4ad_ros.prompts.encoders import TextEncoder
from vl4ad_ros.random_word.config import TrainSettings
from vl4ad_ros.random_word.embed import Progress, embed
from vl4ad_ros.random_word.family import PromptFamily
from vl4ad_ros.random_word.network import RandomWordNetwork
from vl4ad_ros.random_word.prompts import ANOMALOUS, NORMAL, Prompts, generate, load_words, mix, split

EpochReport = Callable[[int, float, float], None]


@dataclass(frozen=True)
class Embedded:
    """Prompts as the network sees them.

    Attributes:
        rows: float32 [n, D], unit rows.
        labels: int64 [n], 0 normal, 1 anomalous.
    """

    rows: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class TextData:
    """What a training reads: prompts to learn from and validation sets by what they hold out (`prompts.mix`)."""

    train: Embedded
    validation: Mapping[str, Embedded]


def prepare(
    settings: TrainSettings,
    family: PromptFamily,
    encoder: TextEncoder,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> TextData:
    """Generate and embed the training prompts and the validation sets; equal settings give equal data.

    The validation prompts depend on the seed alone: they carry one to four random words also where the training has
    none, so that trainings with different numbers of words can be compared.
    """
    for_split, for_train, for_validation = (np.random.default_rng([settings.seed, part]) for part in range(3))
    train, held = split(family, load_words(settings.words, family), settings.held_out, for_split)
    probing = settings.words.model_copy(update={"least": 1, "most": 4})
    validation = {
        name: generate(material, probing, settings.validation_samples, for_validation)
        for name, material in mix(train, held).items()
    }
    prompts = generate(train, settings.words, settings.samples, for_train)

    def embedded(part: Prompts) -> Embedded:
        return Embedded(embed(part.texts, encoder, cache, progress=progress), part.labels)

    return TextData(embedded(prompts), {name: embedded(part) for name, part in validation.items()})


class _Head(nn.Module):
    """The feed-forward network, with what only training needs."""

    def __init__(self, dim: int, settings: TrainSettings) -> None:
        super().__init__()
        self.first = nn.Linear(dim, settings.hidden)
        self.second = nn.Linear(settings.hidden, 1)
        self.dropout, self.noise = settings.dropout, settings.noise
        # Rows of unit length have entries near 1/sqrt(D): without this the hidden layer would start far too quiet.
        nn.init.normal_(self.first.weight, std=1.0)

    def forward(self, rows: Tensor) -> Tensor:
        """Unit rows [n, D] -> logits [n]."""
        if self.training and self.noise > 0:
            rows = F.normalize(rows + torch.randn_like(rows) * self.noise / rows.shape[1] ** 0.5, dim=1)
        hidden = F.dropout(F.relu(self.first(rows)), self.dropout, self.training)
        logits: Tensor = self.second(hidden).squeeze(1)
        return logits


def train(
    data: TextData, settings: TrainSettings, encoder_id: str, report: EpochReport | None = None
) -> RandomWordNetwork:
    """Train on embedded prompts, stop early, and return the network of the lowest validation loss with its card.

    The loss that stops is that of the `all` set: words, states and templates that training has not seen.

    Args:
        data: Embedded prompts.
        settings: The settings.
        encoder_id: The text encoder that embedded them.
        report: Called after each pass with (pass, training loss, validation loss).
    """
    started = time.monotonic()
    # A generator of our own cannot reach dropout; forking keeps the caller's random state as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        head, epochs = _fit(data, settings, report)
    weights = {name: value.detach().numpy() for name, value in head.named_parameters()}
    rows, labels = data.train.rows, data.train.labels
    network = RandomWordNetwork(
        w1=np.ascontiguousarray(weights["first.weight"].T),
        b1=weights["first.bias"],
        w2=weights["second.weight"][0],
        b2=weights["second.bias"],
        shift=np.zeros(rows.shape[1], dtype=np.float32),
        text_means=np.stack([rows[labels == label].mean(axis=0) for label in (NORMAL, ANOMALOUS)]),
        encoder_id=encoder_id,
    )
    card = {
        "kind": "random-word network",
        "text_encoder": encoder_id,
        "settings": settings.model_dump(mode="json"),
        "prompts": {"train": len(labels), **{name: len(part.labels) for name, part in data.validation.items()}},
        "images": "none: trained on text embeddings alone",
        "epochs": epochs,
        "validation": validate_network(network, data),
        "seconds": round(time.monotonic() - started, 1),
        "versions": {"vl4ad_ros": __version__, "torch": str(torch.__version__)},
        "gap": {"kind": "none"},
    }
    return replace(network, card=card)


def _fit(data: TextData, settings: TrainSettings, report: EpochReport | None) -> tuple[_Head, int]:
    """Return the trained head, in evaluation mode, and the passes that it took."""
    rows, labels = torch.from_numpy(data.train.rows), torch.from_numpy(data.train.labels).float()
    held = data.validation["all"]
    held_rows, held_labels = torch.from_numpy(held.rows), torch.from_numpy(held.labels).float()
    head = _Head(rows.shape[1], settings)
    optimizer = torch.optim.AdamW(head.parameters(), lr=settings.rate, weight_decay=settings.weight_decay)
    smooth = labels * (1 - settings.label_smoothing) + settings.label_smoothing / 2
    best, best_state, best_epoch, epoch = float("inf"), copy.deepcopy(head.state_dict()), 0, 0
    while epoch < settings.epochs and epoch - best_epoch < settings.patience:
        epoch += 1
        head.train()
        total = 0.0
        for chosen in torch.randperm(len(rows)).split(settings.batch):
            loss = F.binary_cross_entropy_with_logits(head(rows[chosen]), smooth[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(chosen)
        head.eval()
        with torch.no_grad():
            held_loss = F.binary_cross_entropy_with_logits(head(held_rows), held_labels).item()
        if held_loss < best:
            best, best_state, best_epoch = held_loss, copy.deepcopy(head.state_dict()), epoch
        if report is not None:
            report(epoch, total / len(rows), held_loss)
    head.load_state_dict(best_state)
    return head.eval(), epoch


def validate_network(network: RandomWordNetwork, data: TextData) -> dict[str, dict[str, float]]:
    """Return AUROC and accuracy (at p = 0.5) per validation set, and how well the training prompts cover it."""
    results: dict[str, dict[str, Any]] = {}
    for name, part in data.validation.items():
        p = network.probability(part.rows)
        metrics = PixelMetrics()
        metrics.add(p[None], part.labels.astype(np.uint8)[None])
        results[name] = {
            "auroc": metrics.result().auroc,
            "accuracy": float(((p >= 0.5) == (part.labels == ANOMALOUS)).mean()),
            "coverage": coverage(data.train, part),
        }
    return results


def coverage(train: Embedded, held: Embedded, energy: float = 0.95) -> float:
    """Return how much of the held-out prompts the training prompts span.

    The principal directions that carry 95 % of the training prompts' squared length are what a network can learn about;
    the coverage is the mean squared length of the held-out unit rows inside them.

    Args:
        train: Training prompts.
        held: Held-out prompts.
        energy: Share of the squared length.

    Returns:
        In [0, 1].
    """
    values, directions = np.linalg.eigh(train.rows.T.astype(np.float64) @ train.rows)
    shares = np.cumsum(values[::-1]) / values.sum()
    kept = directions[:, ::-1][:, : int(np.searchsorted(shares, energy)) + 1]
    return float(((held.rows @ kept) ** 2).sum(axis=1).mean())
