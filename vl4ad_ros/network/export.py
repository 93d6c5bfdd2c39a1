"""From a mask network's folder to a bundle: sizes, card, prompt sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.bundle_writer import write_bundle
from vl4ad_ros.network.checkpoint import load_network
from vl4ad_ros.runtime.bundle import BundleCard, InputSpec, ModelBundle
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet, load_compiled
from vl4ad_ros.runtime.prompt_tensors import PromptLimits


def export_network(
    folder: str | Path,
    output: str | Path,
    prompt_sets: Sequence[str | Path],
    height: int = 1024,
    width: int = 2048,
    limits: PromptLimits | None = None,
    name: str | None = None,
    licence: str = "unknown: that of the imported weights",
    threshold: float = 0.5,
    with_network: bool = False,
    resize: Literal["classes", "masks", "score"] = "classes",
) -> ModelBundle:
    """Export a network that `vl4ad import-fcclip` or `vl4ad train` wrote, at a fixed image size.

    Args:
        folder: The network's folder (`network.json`, `network.safetensors`).
        output: The bundle's folder.
        prompt_sets: Compiled sets (`.safetensors`); the first is the default.
        height: Rows of the network's input, a multiple of 32.
        width: Columns, a multiple of 32.
        limits: Sizes of the prompt inputs; by default large enough for 256 concepts in 64 columns.
        name: The bundle's name; by default the output folder's.
        licence: Terms of the weights, for the card.
        threshold: Default threshold of the anomaly mask, for the card.
        with_network: Whether the bundle also carries the PyTorch network.
        resize: What the graph resizes to the input's size (`NetworkConfig.resize`).

    Raises:
        Vl4adError: If the network or a prompt set is missing or does not fit, or the export goes wrong.
    """
    if height % 32 or width % 32 or min(height, width) < 32:
        raise Vl4adError(f"The image size must be multiples of 32, got {height}x{width}.")
    if not prompt_sets:
        raise Vl4adError("Name at least one compiled prompt set with --prompts; 'vl4ad prompts compile' makes them.")
    sets: list[CompiledPromptSet] = [load_compiled(path) for path in prompt_sets]
    network = load_network(folder)
    config = network.config.model_copy(update={"resize": resize})
    network.config = config
    card = BundleCard(
        name=name or Path(output).name,
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
        default_prompt_set=sets[0].name,
        default_threshold=threshold,
        licence=licence,
    )
    return write_bundle(network, output, card, sets, with_network=with_network)
