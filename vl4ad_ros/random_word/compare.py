"""The comparison on road data: VL4AD, random words, none, prompt-guided cosines, on one bundle, over several seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.detector import Detector, upsample
from vl4ad_ros.evaluation.datasets import DatasetSource
from vl4ad_ros.evaluation.pixel_metrics import PixelMetrics
from vl4ad_ros.prompts.encoders import TextEncoder
from vl4ad_ros.prompts.tensors import PromptTensors
from vl4ad_ros.random_word.config import TrainSettings
from vl4ad_ros.random_word.embed import embed
from vl4ad_ros.random_word.family import PromptFamily, load_family
from vl4ad_ros.random_word.gap import Reference, close_gap, directions, mean_visual_embedding
from vl4ad_ros.random_word.network import RandomWordNetwork, cosine_network
from vl4ad_ros.random_word.prompts import ANOMALOUS, NORMAL, WordSettings, every_prompt
from vl4ad_ros.random_word.training import prepare, train

COSINE_TEMPERATURE = 0.07
"""WinCLIP's, as anomalib's code has it; a monotone map of the score, so AP and FPR95 do not depend on it."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Variant:
    """One line of the table.

    Attributes:
        name: What it is.
        method: `vl4ad`, `random_word` or `both`.
        networks: One per seed; none for VL4AD alone.
    """

    name: str
    method: str
    networks: tuple[RandomWordNetwork, ...] = ()


def word_settings(settings: TrainSettings) -> dict[str, WordSettings]:
    """Return what the table compares: no random words, random words, and random words in anomalous prompts only."""
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
    visual_mean: NDArray[np.float32] | None = None,
    reference: Reference = "normal",
    cache: Path | None = None,
    say: Say = lambda line: None,
) -> list[Variant]:
    """Train every network of the table.

    Args:
        settings: The training; the number of its words is that of all variants, its `labels` are those of `both`.
        encoder: The text encoder.
        seeds: One training each, with its own split, prompts and start.
        visual_mean: float32 [D], the mean visual embedding of unlabelled images; None leaves the gap open.
        reference: What the images show; see `gap.close_gap`.
        cache: Folder for embeddings.
        say: Called with a line on what is being done.
    """
    family = load_family(settings.family)

    def closed(network: RandomWordNetwork) -> RandomWordNetwork:
        if visual_mean is None:
            return network
        basis = directions(network)
        return close_gap(network, basis, basis @ visual_mean, reference, {})

    trained: dict[str, list[RandomWordNetwork]] = {}
    for name, words in word_settings(settings).items():
        for seed in seeds:
            run = settings.model_copy(update={"words": words, "seed": seed})
            network = train(prepare(run, family, encoder, cache), run, encoder.id)
            held = network.card["validation"]["all"]
            say(f"{name}, seed {seed}: AUROC on held-out prompts {held['auroc']:.3f}, coverage {held['coverage']:.3f}")
            trained.setdefault(name, []).append(network)
    cosine = prompt_guided(family, encoder, cache)
    variants = [Variant("VL4AD", "vl4ad"), Variant("prompt-guided cosines, no training", "random_word", (cosine,))]
    for name, networks in trained.items():
        variants.append(Variant(name, "random_word", tuple(closed(network) for network in networks)))
    chosen = next(name for name, words in word_settings(settings).items() if words == settings.words)
    if visual_mean is not None:
        variants.append(Variant(f"{chosen}, gap left open", "random_word", tuple(trained[chosen])))
    joined = tuple(closed(network) for network in trained[chosen])
    variants.append(Variant(f"both: VL4AD + {chosen}", "both", joined))
    return variants


def prompt_guided(family: PromptFamily, encoder: TextEncoder, cache: Path | None = None) -> RandomWordNetwork:
    """Return the baseline: cosines to the mean of all normal and of all anomalous prompts, without random words."""
    prompts = every_prompt(family)
    rows = embed(prompts.texts, encoder, cache)
    means = np.stack([rows[prompts.labels == label].mean(axis=0) for label in (NORMAL, ANOMALOUS)])
    return cosine_network(means, COSINE_TEMPERATURE, encoder.id)


def visual_mean_of(
    detector: Detector, images: Sequence[NDArray[np.uint8]], say: Say = lambda line: None
) -> NDArray[np.float32]:
    """Measure the mean visual embedding along every axis of the text space, float32 [D]."""
    inputs = [detector.preprocess(image) for image in images]
    basis = np.eye(detector.bundle.card.embedding_dim, dtype=np.float32)

    def progress(done: int, total: int) -> None:
        if done % 500 == 0:
            say(f"mean visual embedding: {done} of {total} runs")

    return mean_visual_embedding(detector.engine, detector.bundle, inputs, basis, progress)


def score_dataset(
    detector: Detector, source: DatasetSource, prompts: PromptTensors, most_frames: int | None = None
) -> dict[str, float]:
    """Return AP, FPR95 and AUROC at the labels' size, of all frames of a data set or of some, spread evenly."""
    metrics = PixelMetrics()
    count = min(len(source), most_frames or len(source))
    for frame in source.frames([index * len(source) // count for index in range(count)]):
        if frame.labels is None:
            continue
        small = detector.infer([detector.preprocess(frame.image)], prompts)[0]
        metrics.add(upsample(small, *frame.labels.shape), frame.labels)
    result = metrics.result()
    return {"ap": result.ap, "fpr95": result.fpr95, "auroc": result.auroc}


def compare(
    detector: Detector,
    sources: Mapping[str, DatasetSource],
    variants: Sequence[Variant],
    prompt_set: str | None = None,
    most_frames: int | None = None,
    say: Say = lambda line: None,
) -> list[dict[str, Any]]:
    """Evaluate every variant on every data set.

    Args:
        detector: The bundle in an engine.
        sources: Data sets by name.
        variants: The lines of the table.
        prompt_set: VL4AD's; None takes the bundle's default.
        most_frames: Frames of each data set, spread evenly; None takes all.
        say: Called with a line on what is being done.

    Returns:
        One dictionary per variant: `name`, `method`, `runs` (networks), `held_out` and `coverage` (means over seeds, of
        the text validation) and `results`: data set -> metric -> {`mean`, `spread`, `values`}, the spread being the
        standard deviation over the seeds.
    """
    rows = []
    for variant in variants:
        networks: Sequence[RandomWordNetwork | None] = variant.networks or (None,)
        values: dict[str, dict[str, list[float]]] = {}
        for number, network in enumerate(networks):
            prompts = detector.prompts(prompt_set, method=variant.method, random_word=network or "default")
            for name, source in sources.items():
                scores = score_dataset(detector, source, prompts, most_frames)
                say(f"{variant.name}, {number + 1} of {len(networks)}, {name}: AP {scores['ap']:.4f}")
                for metric, value in scores.items():
                    values.setdefault(name, {}).setdefault(metric, []).append(value)
        rows.append(
            {
                "name": variant.name,
                "method": variant.method,
                "runs": len(networks),
                **_text_figures(variant.networks),
                "results": {
                    name: {metric: _summary(numbers) for metric, numbers in metrics.items()}
                    for name, metrics in values.items()
                },
            }
        )
    return rows


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
