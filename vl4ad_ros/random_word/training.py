"""Text-only training of a random-word network (needs PyTorch, the `training` extra)."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vl4ad_ros import __version__
from vl4ad_ros.evaluation.pixel_metrics import exact_result
from vl4ad_ros.prompts.encoders import Progress, TextEncoder
from vl4ad_ros.random_word.embed import embed
from vl4ad_ros.random_word.prompts import ANOMALOUS, NORMAL, Prompts, every_prompt, generate, load_words, mix, split
from vl4ad_ros.random_word.settings import PromptFamily, TrainSettings
from vl4ad_ros.runtime.random_word_network import RandomWordNetwork, cosine_network

EpochReport = Callable[[int, float, float], None]
"""Called after each pass with (pass, training loss, validation loss)."""

COSINE_TEMPERATURE = 0.07
"""WinCLIP's, as anomalib's code has it; a monotone map of the score, so AP and FPR95 do not depend on it."""


@dataclass(frozen=True)
class Embedded:
    """Embedded prompts: unit rows float32 [n, D] and labels int64 [n], 0 normal, 1 anomalous."""

    rows: NDArray[np.float32]
    labels: NDArray[np.int64]

    def means(self) -> NDArray[np.float32]:
        """Return the mean row of the normal and of the anomalous prompts, [2, D]."""
        return np.stack([self.rows[self.labels == label].mean(axis=0) for label in (NORMAL, ANOMALOUS)])


@dataclass(frozen=True)
class TextData:
    """The data of a training: prompts to learn from, and validation sets by name (`prompts.mix`)."""

    train: Embedded
    validation: Mapping[str, Embedded]
    span: NDArray[np.float32]  # orthonormal basis [D, r] of the space of the rows, in which the network learns

    def joined(self) -> Embedded:
        """Return all prompts together."""
        parts = [self.train, *self.validation.values()]
        return Embedded(np.concatenate([part.rows for part in parts]), np.concatenate([part.labels for part in parts]))


def prepare(
    settings: TrainSettings,
    family: PromptFamily,
    encoder: TextEncoder,
    cache: Path | None = None,
    progress: Progress | None = None,
    span: NDArray[np.float32] | None = None,
) -> TextData:
    """Generate and embed the training prompts and the validation sets; equal settings give equal data.

    With the `span` of the pixels' embeddings (`pixel_explainer.pixel_span`), the texts are projected onto it: what they
    say in other directions no pixel can have.

    Validation, and with it what `refit` learns, places random words as the training does: a network that has seen none
    is not stopped by prompts with words, nor taught them after all.
    """
    for_split, for_train, for_validation = (np.random.default_rng([settings.seed, part]) for part in range(3))
    train, held = split(family, load_words(settings.words, family), settings.held_out, for_split)
    validation = {
        name: generate(material, settings.words, settings.validation_samples, for_validation)
        for name, material in mix(train, held).items()
    }
    prompts = generate(train, settings.words, settings.samples, for_train)

    def embedded(part: Prompts) -> Embedded:
        rows = embed(part.texts, encoder, cache, progress=progress)
        if span is not None:
            rows = rows @ span @ span.T
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return Embedded(rows, part.labels)

    whole = np.eye(encoder.dim, dtype=np.float32) if span is None else span
    return TextData(embedded(prompts), {name: embedded(part) for name, part in validation.items()}, whole)


class _Head(nn.Module):
    """The feed-forward network on coordinates in a span [D, r], with dropout and noise for the training."""

    def __init__(self, span: NDArray[np.float32], settings: TrainSettings) -> None:
        super().__init__()
        self.span = span
        self.first = nn.Linear(span.shape[1], settings.hidden)
        self.second = nn.Linear(settings.hidden, 1)
        self.dropout, self.noise = settings.dropout, settings.noise
        with torch.no_grad():
            self.first.weight.mul_(settings.start)

    def forward(self, rows: Tensor) -> Tensor:
        """Coordinates of unit rows, [n, r] -> logits [n]."""
        if self.training and self.noise > 0:
            rows = F.normalize(rows + torch.randn_like(rows) * self.noise / rows.shape[1] ** 0.5, dim=1)
        hidden = F.dropout(F.relu(self.first(rows)), self.dropout, self.training)
        logits: Tensor = self.second(hidden).squeeze(1)
        return logits

    def network(self, prompts: Embedded, encoder_id: str) -> RandomWordNetwork:
        """Return the trained network; its text means are those of the prompts."""
        w1, b1, w2, b2 = (value.detach().numpy().copy() for value in self.parameters())
        shift = np.zeros(len(self.span), dtype=np.float32)
        return RandomWordNetwork(self.span @ w1.T, b1, w2[0], b2, shift, prompts.means(), encoder_id)


def train(
    data: TextData, settings: TrainSettings, encoder_id: str, report: EpochReport | None = None
) -> RandomWordNetwork:
    """Train on prompts that the encoder embedded, and return the network with its card.

    Training stops by the loss of the `all` set: words, states and templates that training has not seen; the figures
    on the card are those of the network of its lowest value. With `refit`, the network that is returned is then trained
    anew for as many passes on the validation prompts as well: it would otherwise lack a quarter of the states.
    """
    started = time.monotonic()
    learned = data.train
    # A generator of our own cannot reach dropout; forking keeps the caller's random state as it was.
    with torch.random.fork_rng(devices=[]), contextlib.ExitStack() as stack:
        # One thread: the matrices are so small that threads would mostly wait for each other.
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)
        head, epochs, best = _fit(data, settings, report)
        validation = validate_network(head.network(learned, encoder_id), data)
        if settings.refit:
            learned = data.joined()
            head, passes = _start(learned, data.span, settings)
            for _ in range(best):
                next(passes)
    card = {
        "kind": "random-word network",
        "text_encoder": encoder_id,
        "settings": settings.model_dump(mode="json"),
        "prompts": {name: len(part.labels) for name, part in {"train": learned, **data.validation}.items()},
        "images": "none: trained on text embeddings alone",
        "rank": data.span.shape[1],
        "epochs": epochs,
        "best_epoch": best,
        "validation": validation,
        "seconds": round(time.monotonic() - started, 1),
        "versions": {"vl4ad_ros": __version__, "torch": str(torch.__version__)},
        "gap": {"kind": "none"},
    }
    return replace(head.network(learned, encoder_id), card=card)


def _start(prompts: Embedded, span: NDArray[np.float32], settings: TrainSettings) -> tuple[_Head, Iterator[float]]:
    """Return a new head, and its passes over the prompts: each trains it and gives its mean loss."""
    torch.manual_seed(settings.seed)
    head = _Head(span, settings)
    return head, _passes(head, prompts, settings)


def _passes(head: _Head, prompts: Embedded, settings: TrainSettings) -> Iterator[float]:
    rows, labels = torch.from_numpy(prompts.rows @ head.span), torch.from_numpy(prompts.labels).float()
    targets = labels * (1 - settings.label_smoothing) + settings.label_smoothing / 2
    optimizer = torch.optim.AdamW(head.parameters(), lr=settings.rate, weight_decay=settings.weight_decay)
    while True:
        head.train()
        total = 0.0
        for chosen in torch.randperm(len(rows)).split(settings.batch):
            loss = F.binary_cross_entropy_with_logits(head(rows[chosen]), targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(chosen)
        head.eval()
        yield total / len(rows)


def _fit(data: TextData, settings: TrainSettings, report: EpochReport | None) -> tuple[_Head, int, int]:
    """Return the head of the lowest validation loss, the passes that were made, and the best one's number."""
    head, passes = _start(data.train, data.span, settings)
    held = data.validation["all"]
    rows, labels = torch.from_numpy(held.rows @ data.span), torch.from_numpy(held.labels).float()
    lowest, state, best, epoch = float("inf"), copy.deepcopy(head.state_dict()), 0, 0
    while epoch < settings.epochs and epoch - best < settings.patience:
        epoch += 1
        loss = next(passes)
        with torch.no_grad():
            validation_loss = F.binary_cross_entropy_with_logits(head(rows), labels).item()
        if validation_loss < lowest:
            lowest, state, best = validation_loss, copy.deepcopy(head.state_dict()), epoch
        if report is not None:
            report(epoch, loss, validation_loss)
    head.load_state_dict(state)
    return head, epoch, best


def prompt_guided(
    family: PromptFamily, encoder: TextEncoder, cache: Path | None = None, progress: Progress | None = None
) -> RandomWordNetwork:
    """Return the baseline: cosines to the mean of all normal and of all anomalous prompts, without random words."""
    prompts = every_prompt(family)
    embedded = Embedded(embed(prompts.texts, encoder, cache, progress=progress), prompts.labels)
    return cosine_network(embedded.means(), COSINE_TEMPERATURE, encoder.id)


def validate_network(network: RandomWordNetwork, data: TextData) -> dict[str, dict[str, float]]:
    """Return AUROC and accuracy (at p = 0.5) per validation set, and how well the training prompts cover it."""
    results: dict[str, dict[str, Any]] = {}
    for name, part in data.validation.items():
        p = network.probability(part.rows)
        results[name] = {
            "auroc": exact_result(p, part.labels.astype(np.uint8)).auroc,
            "accuracy": float(((p >= 0.5) == (part.labels == ANOMALOUS)).mean()),
            "coverage": coverage(data.train, part),
        }
    return results


def coverage(train: Embedded, held: Embedded, energy: float = 0.95) -> float:
    """Return how much of the held-out prompts the training prompts span, in [0, 1].

    The principal directions that carry a share `energy` of the training prompts' squared length are what a network can
    learn about; the coverage is the mean squared length of the held-out unit rows inside them.
    """
    values, directions = np.linalg.eigh(train.rows.T.astype(np.float64) @ train.rows)
    shares = np.cumsum(values[::-1]) / values.sum()
    kept = directions[:, ::-1][:, : int(np.searchsorted(shares, energy)) + 1]
    return float(((held.rows @ kept) ** 2).sum(axis=1).mean())
