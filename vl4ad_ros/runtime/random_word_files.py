"""Random-word networks inside model bundles: `random_word/<name>.safetensors`, covered by the card's hashes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import RANDOM_WORDS, ModelBundle, replacing
from vl4ad_ros.runtime.random_word_network import DEFAULT, RandomWordNetwork, graph_shapes, load_network
from vl4ad_ros.runtime.scores import DEFAULT_SCORING

METHOD = "random_word"


def network_path(bundle: ModelBundle, name: str = DEFAULT) -> Path:
    """Return where a bundle keeps the network of that name."""
    return bundle.path / RANDOM_WORDS / f"{name}.safetensors"


def choices(bundle: ModelBundle) -> list[tuple[str, str]]:
    """Return the pairs of method and score that a bundle can run; `random_word` alone does not depend on the score."""
    scorings = bundle.card.usable_scorings
    pairs = [("vl4ad", scoring) for scoring in scorings]
    if METHOD in bundle.card.methods and network_path(bundle).is_file():
        pairs += [(METHOD, DEFAULT_SCORING), *(("both", scoring) for scoring in scorings)]
    return pairs


def check_takes(bundle: ModelBundle, name: str) -> None:
    """Check that a network of that name can be put into a bundle."""
    if METHOD not in bundle.card.methods:
        raise Vl4adError(
            f"The graph of bundle '{bundle.card.name}' has no random-word inputs (methods {bundle.card.methods}); "
            "export it again with both methods."
        )
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_\-]*", name) is None:
        raise Vl4adError(f"A random-word network's name has letters, digits, _ and - only, got '{name}'.")


def load_bundled(bundle: ModelBundle, name_or_path: str | Path = DEFAULT) -> RandomWordNetwork:
    """Load a network of a bundle, or a file, and check that it fits."""
    path = Path(name_or_path)
    if path.suffix != ".safetensors":
        path = bundle.find_file(RANDOM_WORDS, str(name_or_path))
    network = load_network(path)
    bundle.check_encoder(RANDOM_WORDS, network.encoder_id, network.dim)
    return network


def graph_inputs(
    bundle: ModelBundle, method: str = METHOD, network: str | Path | RandomWordNetwork = DEFAULT
) -> Mapping[str, NDArray[np.float32]]:
    """Return the method's inputs for a bundle's graph; none where the graph lacks the method, zeros for `vl4ad`."""
    if METHOD not in bundle.card.methods:
        return {}
    if isinstance(network, RandomWordNetwork):
        bundle.check_encoder(RANDOM_WORDS, network.encoder_id, network.dim)
    elif method == "vl4ad":
        shapes = graph_shapes(bundle.card.embedding_dim)
        return {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()}
    else:
        network = load_bundled(bundle, network)
    return network.graph_inputs()


def install(bundle: ModelBundle, network: RandomWordNetwork, name: str = DEFAULT) -> ModelBundle:
    """Write a network into a bundle and renew the card's hashes."""
    check_takes(bundle, name)
    graph_inputs(bundle, METHOD, network)
    with replacing(bundle, network_path(bundle, name)):
        network.save(network_path(bundle, name))
    return ModelBundle.load(bundle.path, verify=False)
