"""The comparison on road data: VL4AD, random words, none, prompt-guided cosines, on one bundle, over several seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.datasets import DatasetSource, require_whole
from vl4ad_ros.evaluation.pixel_metrics import PixelMetrics, PixelResult
from vl4ad_ros.prompts.encoders import Progress, TextEncoder
from vl4ad_ros.random_word.config import TrainSettings
from vl4ad_ros.random_word.family import load_family
from vl4ad_ros.random_word.gap import Reference, close_gap, directions, mean_visual_embedding
from vl4ad_ros.random_word.prompts import WordSettings
from vl4ad_ros.random_word.training import prepare, prompt_guided, train
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.prompt_tensors import PromptTensors
from vl4ad_ros.runtime.random_word_network import RandomWordNetwork

METRICS = ("ap", "fpr95", "auroc", "error")

Say = Callable[[str], None]
"""Called with a line on the progress."""


@dataclass(frozen=True)
class Variant:
    """A line of the table: a method with its networks.

    Attributes:
        name: Title of the line.
        method: `vl4ad`, `random_word` or `both`.
        networks: One per seed; none for VL4AD alone.
    """

    name: str
    method: str
    networks: tuple[RandomWordNetwork, ...] = ()


def word_settings(settings: TrainSettings) -> dict[str, WordSettings]:
    """Return the compared settings: no random words, random words, and random words in anomalous prompts only."""
    words = settings.words
    return {
        "no random words": words.model_copy(update={"least": 0, "most": 0}),
        "random words": words.model_copy(update={"labels": "both"}),
        "random words in anomalous prompts only (ours)": words.model_copy(update={"labels": "anomalous"}),
    }


def make_variants(
    settings: TrainSettings,
    encoder: TextEncoder,
    seeds: Sequence[int],
    visual_mean: NDArray[np.float32] | None,
    reference: Reference,
    cache: Path | None,
    say: Say,
    progress: Progress,
) -> list[Variant]:
    """Train every network of the table.

    Args:
        settings: The training; the number of its words is that of all variants, its `labels` are those of `both`.
        encoder: The text encoder.
        seeds: One training each, with its own split, prompts and start.
        visual_mean: float32 [D], the mean visual embedding of unlabelled images: each kind of network then comes once
            with the gap left open and once with it closed. None leaves it open.
        reference: See `gap.close_gap`.
        cache: Folder for embeddings.
        say: See `Say`.
        progress: Called with (texts embedded, texts in all) of each set of prompts.
    """
    family = load_family(settings.family)

    def closed(network: RandomWordNetwork, mean: NDArray[np.float32]) -> RandomWordNetwork:
        basis = directions(network)
        return close_gap(network, basis, basis @ mean, reference, {})

    trained: dict[str, list[RandomWordNetwork]] = {}
    for name, words in word_settings(settings).items():
        for seed in seeds:
            run = settings.model_copy(update={"words": words, "seed": seed})
            network = train(prepare(run, family, encoder, cache, progress), run, encoder.id)
            figures = network.card["validation"]["all"]
            say(
                f"{name}, seed {seed}: AUROC on held-out prompts {figures['auroc']:.3f}, "
                f"coverage {figures['coverage']:.3f}"
            )
            trained.setdefault(name, []).append(network)
    cosine = prompt_guided(family, encoder, cache, progress)
    variants = [Variant("VL4AD", "vl4ad"), Variant("prompt-guided cosines, no training", "random_word", (cosine,))]
    for name, networks in trained.items():
        variants.append(Variant(name, "random_word", tuple(networks)))
        if visual_mean is not None:
            moved = tuple(closed(network, visual_mean) for network in networks)
            variants.append(Variant(f"{name}, gap closed", "random_word", moved))
    chosen = next(name for name, words in word_settings(settings).items() if words == settings.words)
    variants.append(Variant(f"both: VL4AD + {chosen}", "both", tuple(trained[chosen])))
    return variants


def visual_mean_of(detector: Detector, images: Sequence[NDArray[np.uint8]], say: Say) -> NDArray[np.float32]:
    """Measure the mean visual embedding along every axis of the text space, float32 [D]."""
    inputs = [detector.preprocess(image) for image in images]
    basis = np.eye(detector.bundle.card.embedding_dim, dtype=np.float32)

    def progress(done: int, total: int) -> None:
        if done % 1000 == 0:
            say(f"mean visual embedding: {done} of {total} runs")

    return mean_visual_embedding(detector.engine, detector.bundle, inputs, basis, progress)


def pixel_results(
    detector: Detector,
    frames: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    prompts: Sequence[PromptTensors],
) -> list[PixelResult]:
    """Return the pixel metrics of each set of prompts, at the labels' size.

    All sets see a frame before the next one comes, so that an engine can keep what depends on the image alone.

    Args:
        detector: The bundle in an engine.
        frames: Images uint8 [H, W, 3] and labels uint8 [H, W].
        prompts: Sets of prompts.
    """
    metrics = [PixelMetrics() for _ in prompts]
    for image, labels in frames:
        for one, collected in zip(prompts, metrics, strict=True):
            collected.add(detector.detect(image, one, labels.shape), labels)
    return [collected.result() for collected in metrics]


def labelled_frames(
    source: DatasetSource, stride: int, say: Say
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield image and labels of every n-th frame of a data set.

    Raises:
        Vl4adError: At the end, if a frame could not be read.
    """
    indices = range(0, len(source), stride)
    for number, frame in enumerate(source.frames(indices), start=1):
        if frame.labels is not None:
            yield frame.image, frame.labels
        if number % 10 == 0:
            say(f"{source.layout.title}: {number} of {len(indices)} frames")
    require_whole(source)


def compare(
    detector: Detector,
    sources: Mapping[str, DatasetSource],
    variants: Sequence[Variant],
    prompt_set: str | None,
    stride: int,
    say: Say,
) -> list[dict[str, Any]]:
    """Evaluate every variant on every data set.

    Args:
        detector: The bundle in an engine.
        sources: Data sets by name.
        variants: The lines of the table.
        prompt_set: VL4AD's; None takes the bundle's default.
        stride: Take every n-th frame.
        say: See `Say`.

    Returns:
        One dictionary per variant: `name`, `method`, `runs` (networks), `held_out` and `coverage` (means over seeds, of
        the text validation) and `results`: data set -> metric -> {`mean`, `spread`, `values`}, the spread being the
        standard deviation over the seeds.
    """
    runs = [(variant, network) for variant in variants for network in variant.networks or (None,)]
    prompts = [detector.prompts(prompt_set, method=variant.method, random_word=network) for variant, network in runs]
    values: dict[str, dict[str, dict[str, list[float]]]] = {variant.name: {} for variant in variants}
    for name, source in sources.items():
        results = pixel_results(detector, labelled_frames(source, stride, say), prompts)
        for (variant, _), result in zip(runs, results, strict=True):
            say(f"{name}, {variant.name}: AP {result.ap:.4f}")
            for metric in METRICS:
                numbers = values[variant.name].setdefault(name, {}).setdefault(metric, [])
                numbers.append(getattr(result, metric))
    return [
        {
            "name": variant.name,
            "method": variant.method,
            "runs": len(variant.networks or (None,)),
            **_text_figures(variant.networks),
            "results": {
                name: {metric: _summary(numbers) for metric, numbers in metrics.items()}
                for name, metrics in values[variant.name].items()
            },
        }
        for variant in variants
    ]


def _text_figures(networks: Sequence[RandomWordNetwork]) -> dict[str, Any]:
    held = [network.card["validation"]["all"] for network in networks if "validation" in network.card]
    if not held:
        return {}
    return {
        "held_out_auroc": _summary([figures["auroc"] for figures in held]),
        "coverage": _summary([figures["coverage"] for figures in held]),
    }


def _summary(values: Sequence[float]) -> dict[str, Any]:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "spread": spread, "values": list(values)}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the comparison as a Markdown table, in percent, mean +- standard deviation over the seeds."""

    def cell(summary: Mapping[str, Any] | None) -> str:
        if summary is None:
            return "-"
        text = f"{100 * summary['mean']:.1f}"
        return f"{text} ± {100 * summary['spread']:.1f}" if len(summary["values"]) > 1 else text

    names = list(rows[0]["results"])
    head = ["method", "runs", "held-out prompts AUROC"]
    head += [f"{name} {metric}" for name in names for metric in ("AP", "FPR95", "AUROC")]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        cells = [row["name"], str(row["runs"]), cell(row.get("held_out_auroc"))]
        cells += [cell(row["results"][name][metric]) for name in names for metric in ("ap", "fpr95", "auroc")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
