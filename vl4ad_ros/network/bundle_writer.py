"""Writing a model bundle: the graph, compared with the network that it came from, prompt sets, card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import atomic_write
from vl4ad_ros.network.checkpoint import load_network, save_bundled_network
from vl4ad_ros.network.onnx_export import export_onnx, run_onnx, run_torch
from vl4ad_ros.runtime.bundle import PROMPTS, BundleCard, InputSpec, ModelBundle, write_card
from vl4ad_ros.runtime.graph_compare import TOLERANCES, compare, every_setting, noise_batches
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet, load_compiled
from vl4ad_ros.runtime.prompt_tensors import PromptLimits
from vl4ad_ros.runtime.scores import SCORINGS


def write_bundle(
    network: torch.nn.Module,
    folder: str | Path,
    card: BundleCard,
    prompt_sets: Sequence[CompiledPromptSet],
    images: Sequence[NDArray[np.uint8]] = (),
    tolerance: float = TOLERANCES["float32"],
    with_network: bool = False,
) -> ModelBundle:
    """Export a network, compare the graph with it, and write the bundle; an old one there stays until all is well.

    The network is in eval mode, float32, with the graph contract (`export_onnx`). Prompt sets of other names in the
    folder stay; the card's default one must be among `prompt_sets`. It is compared on `images`, batches uint8 [B, H, W,
    3] at network size, by default noise, to a `tolerance` of the published map; the card gets the error and the hashes.
    """
    folder = Path(folder)
    card = card.model_copy(update={"scorings": list(SCORINGS)})
    by_name = {prompt_set.name: prompt_set for prompt_set in prompt_sets}
    if card.default_prompt_set not in by_name:
        raise Vl4adError(f"The default prompt set '{card.default_prompt_set}' is not among {list(by_name)}.")
    for prompt_set in prompt_sets:
        if prompt_set.encoder_id != card.text_encoder or prompt_set.dim != card.embedding_dim:
            raise Vl4adError(
                f"Prompt set '{prompt_set.name}' is of the text encoder '{prompt_set.encoder_id}' (dimension "
                f"{prompt_set.dim}), the bundle's is '{card.text_encoder}' (dimension {card.embedding_dim})."
            )
        card.pack(prompt_set)
    (folder / PROMPTS).mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / card.onnx) as part:
        random_word = "random_word" in card.methods
        export_onnx(network, part, card.input, card.embedding_dim, card.prompt_limits, random_word=random_word)
        check = compare(
            lambda i, p: run_torch(network, i, p),
            lambda i, p: run_onnx(part, i, p),
            every_setting(by_name[card.default_prompt_set], card),
            list(images) or noise_batches(card.input),
        )
        if not check["max_abs_error"] <= tolerance:
            raise Vl4adError(
                f"The exported graph differs from the network by {check['max_abs_error']:.2g} in the published map of "
                f"'{check['worst']}' (at most {tolerance:.2g} is accepted)."
            )
    for prompt_set in prompt_sets:
        prompt_set.save(folder / PROMPTS / f"{prompt_set.name}.safetensors")
    scores = {**card.scores, "onnx_check": {"against": f"PyTorch {torch.__version__}, float32", **check}}
    files = save_bundled_network(network, folder) if with_network else []
    hashes = {**card.sha256, **dict.fromkeys(files, "")}
    return ModelBundle(folder, write_card(folder, card.model_copy(update={"scores": scores, "sha256": hashes})))


def export_network(
    folder: str | Path,
    output: str | Path,
    prompt_sets: Sequence[str | Path],
    height: int = 1024,
    width: int = 2048,
    limits: PromptLimits | None = None,
    licence: str = "unknown: that of the imported weights",
    with_network: bool = False,
    resize: Literal["classes", "masks", "score"] = "classes",
) -> ModelBundle:
    """Export a network of `vl4ad import-fcclip` or `vl4ad train` at a fixed size; the folder names the bundle.

    Of the compiled `prompt_sets` the first is the default; `limits` are by default 256 concepts in 64 columns.
    """
    if height % 32 or width % 32 or min(height, width) < 32:
        raise Vl4adError(f"The image size must be multiples of 32, got {height}x{width}.")
    if not prompt_sets:
        raise Vl4adError("Name at least one compiled prompt set with --prompts; 'vl4ad prompts compile' makes them.")
    sets = [load_compiled(path) for path in prompt_sets]
    network = load_network(folder)
    config = network.config = network.config.model_copy(update={"resize": resize})
    card = BundleCard(
        name=Path(output).name,
        description=f"VL4AD mask network, {config.backbone}; weights: {config.origin}",
        input=InputSpec(height=height, width=width, mean=config.mean, std=config.std),
        text_encoder=config.text_encoder,
        embedding_dim=config.head.text_dim,
        num_queries=config.head.num_queries,
        stride=network.stride,
        temperature=network.temperature,
        void=True,
        methods=["vl4ad", "random_word"] if config.head.classes is None else ["vl4ad"],
        prompt_limits=limits or PromptLimits(),
        vocabulary_templates=config.ensemble.templates if config.ensemble else None,
        default_prompt_set=sets[0].name,
        licence=licence,
    )
    return write_bundle(network, output, card, sets, with_network=with_network)
