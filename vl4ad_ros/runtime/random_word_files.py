"""Random-word networks inside model bundles: `random_word/<name>.safetensors`, covered by the card's hashes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import RANDOM_WORDS, BundleCard, ModelBundle, write_card
from vl4ad_ros.runtime.random_word_network import DEFAULT, RandomWordNetwork, graph_shapes, load_network

METHOD = "random_word"


def network_path(bundle: ModelBundle, name: str = DEFAULT) -> Path:
    """Return where a bundle keeps the network of that name."""
    return bundle.path / RANDOM_WORDS / f"{name}.safetensors"


def network_names(bundle: ModelBundle) -> list[str]:
    """Return the names of a bundle's networks, sorted."""
    return sorted(path.stem for path in (bundle.path / RANDOM_WORDS).glob("*.safetensors"))


def check_takes(bundle: ModelBundle, name: str) -> None:
    """Check that a network of that name can be put into a bundle.

    Raises:
        Vl4adError: If the bundle's graph lacks the method, or the name is none.
    """
    if METHOD not in bundle.card.methods:
        raise Vl4adError(
            f"The graph of bundle '{bundle.card.name}' has no random-word inputs (methods {bundle.card.methods}); "
            "export it again with both methods."
        )
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_\-]*", name) is None:
        raise Vl4adError(f"A random-word network's name has letters, digits, _ and - only, got '{name}'.")


def check_fits(network: RandomWordNetwork, card: BundleCard) -> None:
    """Check that a network lives in the bundle's text space.

    Raises:
        Vl4adError: If it was trained with another text encoder.
    """
    if network.encoder_id != card.text_encoder or network.dim != card.embedding_dim:
        raise Vl4adError(
            f"The random-word network was trained with the text encoder '{network.encoder_id}' (dimension "
            f"{network.dim}), but bundle '{card.name}' needs '{card.text_encoder}' (dimension {card.embedding_dim}); "
            f"train one with 'vl4ad random-word train --bundle {card.name}'."
        )


def load_bundled(bundle: ModelBundle, name_or_path: str | Path = DEFAULT) -> RandomWordNetwork:
    """Load a network of a bundle, or a file, and check that it fits.

    Raises:
        Vl4adError: If there is no such network, it is damaged, or of another text encoder.
    """
    path = Path(name_or_path)
    if path.suffix != ".safetensors":
        names = network_names(bundle)
        if not names:
            raise Vl4adError(
                f"Bundle '{bundle.card.name}' has no random-word network '{name_or_path}'; train one with "
                f"'vl4ad random-word train --bundle {bundle.card.name}'."
            )
        if str(name_or_path) not in names:
            raise Vl4adError(
                f"Unknown random-word network for bundle '{bundle.card.name}': expected one of {names}, "
                f"got '{name_or_path}'."
            )
        path = network_path(bundle, str(name_or_path))
    network = load_network(path)
    check_fits(network, bundle.card)
    return network


def graph_inputs(
    bundle: ModelBundle, method: str = METHOD, network: str | Path | RandomWordNetwork = DEFAULT
) -> Mapping[str, NDArray[np.float32]]:
    """Return the method's inputs for a bundle's graph: none where the graph lacks the method.

    Args:
        bundle: The bundle.
        method: `vl4ad`, `random_word` or `both`. For `vl4ad`, zeros stand in for the network: its weight is 0.
        network: A network, its name in the bundle, or a file.

    Raises:
        Vl4adError: If the method needs a network and there is none that fits.
    """
    if METHOD not in bundle.card.methods:
        return {}
    if isinstance(network, RandomWordNetwork):
        check_fits(network, bundle.card)
        return network.graph_inputs()
    if method == "vl4ad":
        shapes = graph_shapes(bundle.card.embedding_dim)
        return {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()}
    return load_bundled(bundle, network).graph_inputs()


def install(bundle: ModelBundle, network: RandomWordNetwork, name: str = DEFAULT) -> ModelBundle:
    """Write a network into a bundle and renew the card's hashes.

    Raises:
        Vl4adError: If the bundle's graph lacks the method, the network does not fit, or it cannot be written.
    """
    check_takes(bundle, name)
    check_fits(network, bundle.card)
    network.graph_inputs()
    path = network_path(bundle, name)
    try:
        path.parent.mkdir(exist_ok=True)
        network.save(path)
        return ModelBundle(bundle.path, write_card(bundle.path, bundle.card))
    except OSError as error:
        raise Vl4adError(f"{path}: cannot be written ({error}).") from error
