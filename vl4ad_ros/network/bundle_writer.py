"""Writing a model bundle: the graph held against the network that it came from, prompt sets, card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.onnx_export import export_onnx, run_onnx, run_torch
from vl4ad_ros.runtime.bundle import PROMPTS, BundleCard, ModelBundle, write_card
from vl4ad_ros.runtime.graph_compare import TOLERANCES, compare, every_setting, noise_batches
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.runtime.prompt_tensors import pack

if TYPE_CHECKING:
    import torch


def write_bundle(
    network: torch.nn.Module,
    folder: str | Path,
    card: BundleCard,
    prompt_sets: Sequence[CompiledPromptSet],
    images: Sequence[NDArray[np.uint8]] = (),
    tolerance: float = TOLERANCES["float32"],
    with_network: bool = False,
) -> ModelBundle:
    """Export a network, hold the graph against it, and write the bundle; an old one there stays until all is well.

    The card gets the error that was measured (`scores.onnx_check`) and the hashes.

    Args:
        network: In eval mode, float32, with the graph contract (`export_onnx`).
        folder: The bundle's folder; made where it is missing. Prompt sets of other names in it stay.
        card: The card; its hashes are filled in here.
        prompt_sets: Compiled for the card's text encoder; the default one must be among them.
        images: Batches uint8 [B, H, W, 3] at network size to compare on; by default noise of different grain.
        tolerance: Largest difference of a published map that is accepted.
        with_network: Whether the bundle also carries the PyTorch network, for the torch backends.

    Raises:
        Vl4adError: If the graph cannot be exported, differs from the network, or a prompt set does not fit.
    """
    folder = Path(folder)
    (folder / PROMPTS).mkdir(parents=True, exist_ok=True)
    default = [s for s in prompt_sets if s.name == card.default_prompt_set]
    if not default:
        raise Vl4adError(
            f"The default prompt set '{card.default_prompt_set}' is not among {[s.name for s in prompt_sets]}."
        )
    for prompt_set in prompt_sets:
        if prompt_set.encoder_id != card.text_encoder or prompt_set.dim != card.embedding_dim:
            raise Vl4adError(
                f"Prompt set '{prompt_set.name}' is of the text encoder '{prompt_set.encoder_id}' (dimension "
                f"{prompt_set.dim}), the bundle's is '{card.text_encoder}' (dimension {card.embedding_dim})."
            )
        pack(prompt_set, card.prompt_limits, card.temperature)
    part = folder / f".{card.onnx}.part"
    try:
        random_word = "random_word" in card.methods
        export_onnx(network, part, card.input, card.embedding_dim, card.prompt_limits, random_word=random_word)
        batches = list(images) or noise_batches(card.input)
        check = compare(
            lambda i, p: run_torch(network, i, p),
            lambda i, p: run_onnx(part, i, p),
            every_setting(default[0], card),
            batches,
        )
        if not check["max_abs_error"] <= tolerance:
            raise Vl4adError(
                f"The exported graph differs from the network by {check['max_abs_error']:.2g} in the published map of "
                f"'{check['worst']}' (at most {tolerance:.2g} is accepted)."
            )
        part.replace(folder / card.onnx)
    finally:
        part.unlink(missing_ok=True)
    for prompt_set in prompt_sets:
        prompt_set.save(folder / PROMPTS / f"{prompt_set.name}.safetensors")
    scores = {**card.scores, "onnx_check": {"against": f"PyTorch {_torch_version()}, float32", **check}}
    hashes = dict(card.sha256)
    if with_network:
        from vl4ad_ros.network.bundled import save_bundled_network

        hashes |= dict.fromkeys(save_bundled_network(network, folder), "")
    return ModelBundle(folder, write_card(folder, card.model_copy(update={"scores": scores, "sha256": hashes})))


def _torch_version() -> str:
    import torch

    return str(torch.__version__)
