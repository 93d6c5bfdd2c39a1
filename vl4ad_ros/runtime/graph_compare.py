"""Comparison of two forms of one graph: what each backend, engine and precision has to pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import BundleCard, InputSpec, ModelBundle
from vl4ad_ros.runtime.engine import Engine
from vl4ad_ros.runtime.engine_card import EngineCard, engine_path, load_engine_card
from vl4ad_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.runtime.prompt_tensors import PromptTensors
from vl4ad_ros.runtime.random_word_network import untrained_network
from vl4ad_ros.runtime.scores import to_uncertainty

TOLERANCES = {"float32": 2e-3, "float16": 2e-2}
"""Largest difference of two published maps that is accepted, by the graph's precision (docs/tensorrt.md)."""

Run = Callable[[NDArray[np.uint8], PromptTensors], NDArray[np.float32]]


def every_setting(prompt_set: CompiledPromptSet, card: BundleCard) -> list[PromptTensors]:
    """Return a prompt set packed with every scoring and method that the card's graph knows."""
    if "random_word" not in card.methods:
        return [card.pack(prompt_set, scoring) for scoring in card.usable_scorings]
    inputs = untrained_network(card.embedding_dim, card.text_encoder).graph_inputs()
    cases = [*((scoring, "vl4ad") for scoring in card.usable_scorings), ("vl4ad", "random_word"), ("max_logit", "both")]
    return [card.pack(prompt_set, scoring, method=method, random_word=inputs) for scoring, method in cases]


def compare(
    reference: Run, candidate: Run, prompts: Sequence[PromptTensors], images: Sequence[NDArray[np.uint8]]
) -> dict[str, Any]:
    """Run two forms of a graph on the same batches uint8 [B, H, W, 3]; return how far their published maps differ.

    `max_abs_error`, `mean_abs_error` (of the worst setting), `worst` (its scoring), `images`, `settings`.
    """
    found: list[tuple[float, float, str]] = []
    for tensors in prompts:
        for batch in images:
            wanted, got = reference(batch, tensors), candidate(batch, tensors)
            if wanted.shape != got.shape:
                raise Vl4adError(f"The maps differ in shape: expected {wanted.shape}, got {got.shape}.")
            if not np.isfinite(got).all():
                raise Vl4adError(f"The map of '{tensors.scoring}' holds values that are not finite.")
            maps = [to_uncertainty(u, tensors.scoring, tensors.temperature) for u in (wanted, got)]
            error = np.abs(maps[0] - maps[1])
            found.append((float(error.max()), float(error.mean()), tensors.scoring))
    worst = dict(zip(("max_abs_error", "mean_abs_error", "worst"), max(found), strict=True))
    return {**worst, "images": sum(len(batch) for batch in images), "settings": len(prompts)}


def noise_batches(spec: InputSpec, batch: int = 2, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Return made-up images of coarse and fine grain: a batch at network size, with `keep_aspect` one of another size.

    Random, so that no part of a graph can pass by answering with a constant.
    """
    rng = np.random.default_rng(seed)
    sizes = [(spec.height, spec.width)]
    if spec.resize == "keep_aspect":
        step = spec.multiple_of
        sizes.append((max(spec.height // 2 // step, 2) * step, max(spec.width // 2 // step, 3) * step))
    batches = []
    for height, width in sizes:
        pictures = []
        for index in range(batch):
            grain = 32 if index % 2 == 0 else 4
            coarse = rng.integers(0, 256, (-(-height // grain), -(-width // grain), 3))
            picture = coarse.repeat(grain, 0).repeat(grain, 1)[:height, :width] + rng.integers(
                -20, 21, (height, width, 3)
            )
            pictures.append(picture.clip(0, 255).astype(np.uint8))
        batches.append(np.stack(pictures))
    return batches


def verify_engine(bundle: ModelBundle, engine: Engine, library: str) -> EngineCard:
    """Compare an engine with ONNX Runtime (CPU); write the difference to its card, also one that is an error."""
    card = load_engine_card(bundle, library)
    batch = min(2, card.image.max_batch)
    images = [b for b in noise_batches(bundle.card.input, batch) if card.image.accepts(*b.shape[:3])]
    reference = OnnxRuntimeEngine(bundle)
    try:
        settings = every_setting(bundle.load_prompt_set(), bundle.card)
        check = compare(reference.infer, engine.infer, settings, images)
        against = reference.info.library
    finally:
        reference.close()
    checked = card.model_copy(update={"check": {"against": f"{against}, CPU, the same graph", **check}})
    checked.write(engine_path(bundle, library))
    tolerance = TOLERANCES.get(bundle.card.precision, TOLERANCES["float32"])
    if not check["max_abs_error"] <= tolerance:
        raise Vl4adError(
            f"The {library} engine of '{bundle.card.name}' is wrong: its published map of '{check['worst']}' differs "
            f"from ONNX Runtime's by {check['max_abs_error']:.2g} (at most {tolerance:.2g} is accepted)."
        )
    return checked
