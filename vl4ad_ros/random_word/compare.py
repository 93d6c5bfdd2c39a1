"""The comparison on road data: VL4AD, random words, none, prompt-guided cosines, on one bundle, over several seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.prompts.encoders import Progress, TextEncoder
from vl4ad_ros.random_word.gap import Reference, close_gap
from vl4ad_ros.random_word.settings import TrainSettings, WordSettings, load_family
from vl4ad_ros.random_word.thresholds import Scene, measure
from vl4ad_ros.random_word.training import prepare, prompt_guided, train
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.random_word_files import METHOD
from vl4ad_ros.runtime.random_word_network import RandomWordNetwork
from vl4ad_ros.training.ablation import Row, Step, run_steps

SCENES = "validation scenes"
METRICS = ("ap", "fpr95", "auroc", "error")

Say = Callable[[str], None]
"""Called with a line on the progress."""


@dataclass(frozen=True)
class Variant:
    """A line of the table: a method with its networks."""

    name: str  # title of the line
    method: str  # `vl4ad`, `random_word` or `both`
    networks: tuple[RandomWordNetwork | None, ...]  # one per seed; None stands for VL4AD alone, which has none


def word_settings(words: WordSettings) -> dict[str, WordSettings]:
    """Return the compared settings: no random words, random words, and random words in anomalous prompts only."""
    return {
        "no random words": words.model_copy(update={"min_words": 0, "max_words": 0}),
        "random words (the paper's placement)": words.model_copy(update={"labels": "both"}),
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
    span: NDArray[np.float32] | None = None,
) -> list[Variant]:
    """Train every network of the table, one per seed, with its own split, prompts and start.

    All variants have the settings' number of words, `both` their `labels`. With `visual_mean` float32 [D], of
    unlabelled images, each kind comes with its gap closed, too; `span` is that of the bundle's pixels.
    """
    family = load_family(settings.family)
    cosine = prompt_guided(family, encoder, cache, progress)
    variants = [Variant("VL4AD", "vl4ad", (None,)), Variant("prompt-guided cosines, no training", METHOD, (cosine,))]
    both: list[Variant] = []
    for name, words in word_settings(settings.words).items():
        trained = []
        for seed in seeds:
            run = settings.model_copy(update={"words": words, "seed": seed})
            trained.append(train(prepare(run, family, encoder, cache, progress, span), run, encoder.id))
            figures = trained[-1].card["validation"]["all"]
            say(f"{name}, seed {seed}: AUROC on held-out prompts {figures['auroc']:.3f}")
        variants.append(Variant(name, METHOD, tuple(trained)))
        if visual_mean is not None:
            closed = tuple(close_gap(network, visual_mean, reference, {}) for network in trained)
            variants.append(Variant(f"{name}, gap closed", METHOD, closed))
        if words == settings.words:
            both.append(Variant(f"both: VL4AD + {name}", "both", tuple(trained)))
    return variants + both


def compare(
    detector: Detector,
    data: Mapping[str, Path],
    variants: Sequence[Variant],
    prompt_set: str | None,
    stride: int,
    say: Say,
    scenes: Sequence[Scene] = (),
) -> list[Row]:
    """Evaluate variants on scenes and every n-th frame of data sets (layout -> folder): a row a network and set."""
    steps = [
        Step(variant.name, 0, detector.prompts(prompt_set, method=variant.method, random_word=network))
        for variant in variants
        for network in variant.networks
    ]
    say(f"{len(scenes)} validation scenes")
    results = measure(detector, [step.prompts for step in steps], scenes) if scenes else []
    rows = [Row(step, SCENES, result) for step, result in zip(steps, results, strict=False)]
    for name, root in data.items():
        for report in run_steps([detector], steps, root, name, None, stride):
            if isinstance(report, list):
                rows += report
            elif report[0] % 10 == 0:
                say(f"{name}: {report[0]} of {report[1]} frames")
    return rows


def best_network(variants: Sequence[Variant], rows: Sequence[Row]) -> RandomWordNetwork:
    """Return the network that is better on the validation scenes.

    Placements are compared by the mean AP over their seeds; of the better one's networks, that of the largest AP is it.
    """
    trained = [variant for variant in variants if variant.method == METHOD and len(variant.networks) > 1]
    found = {
        one.name: [r.result.ap for r in rows if (r.dataset, r.step.label) == (SCENES, one.name)] for one in trained
    }
    best = max(trained, key=lambda variant: np.mean(found[variant.name]))
    network = best.networks[int(np.argmax(found[best.name]))]
    assert network is not None
    return network


def plain(variants: Sequence[Variant], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the comparison as plain data for JSON, one dictionary per variant.

    Its keys are `name`, `method`, `runs` (networks), `held_out_auroc` and `coverage` (of the text validation), and
    `results`: data set -> metric -> {`mean`, `spread`, `values`}, the spread being the standard deviation over seeds.
    """
    lines = []
    for variant in variants:
        cards = [network.card for network in variant.networks if network is not None]
        held = [card["validation"]["all"] for card in cards if "validation" in card]
        keys = {"held_out_auroc": "auroc", "coverage": "coverage"} if held else {}
        text = {name: _summary([figures[key] for figures in held]) for name, key in keys.items()}
        results: dict[str, dict[str, Any]] = {}
        for name in dict.fromkeys(row.dataset for row in rows):
            found = [row.result for row in rows if (row.step.label, row.dataset) == (variant.name, name)]
            results[name] = {metric: _summary([getattr(one, metric) for one in found]) for metric in METRICS}
        runs = {"name": variant.name, "method": variant.method, "runs": len(variant.networks)}
        lines.append({**runs, **text, "results": results})
    return lines


def _summary(values: Sequence[float]) -> dict[str, Any]:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "spread": spread, "values": list(values)}
