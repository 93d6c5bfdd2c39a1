"""The PyTorch network inside a bundle (`network/`), for the torch backends and for exporting again; no pickle."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.checkpoint import CONFIG, load_network, save_network
from vl4ad_ros.network.model import VL4ADNetwork
from vl4ad_ros.network.small import SmallNetwork
from vl4ad_ros.network.small_detector import SmallDetector
from vl4ad_ros.runtime.bundle import ModelBundle

FOLDER = "network"
SMALL = "small.safetensors"
_FORMAT = "vl4ad_ros.small/1"


def save_bundled_network(network: nn.Module, folder: Path) -> list[str]:
    """Write a network into a bundle's folder.

    Args:
        network: A `VL4ADNetwork` or a `SmallDetector`.
        folder: The bundle's folder.

    Returns:
        The files written, relative to the folder; they belong under the card's hashes.

    Raises:
        Vl4adError: If it is another kind of network, or cannot be written.
    """
    target = folder / FOLDER
    if isinstance(network, VL4ADNetwork):
        return [f"{FOLDER}/{path.name}" for path in save_network(network, target)]
    if isinstance(network, SmallDetector):
        inner = network.network
        sizes = {"text_dim": inner.text_dim, "embed_dim": inner.embed_dim, "width": inner.width}
        tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
        target.mkdir(exist_ok=True)
        save_file(tensors, str(target / SMALL), metadata={"vl4ad": json.dumps({"format": _FORMAT, **sizes})})
        return [f"{FOLDER}/{SMALL}"]
    raise Vl4adError(f"A bundle cannot carry a {type(network).__name__}; expected a VL4ADNetwork or a SmallDetector.")


def load_bundled_network(bundle: ModelBundle) -> nn.Module:
    """Load the network of a bundle, in evaluation mode, on the CPU.

    Raises:
        Vl4adError: If the bundle carries none, or it is damaged.
    """
    folder = bundle.path / FOLDER
    if (folder / CONFIG).is_file():
        return load_network(folder)
    if (folder / SMALL).is_file():
        return _load_small(folder / SMALL)
    raise Vl4adError(
        f"Bundle '{bundle.card.name}' carries no PyTorch network ({folder} is missing); write it with "
        "'vl4ad export onnx NETWORK --with-network'."
    )


def _load_small(path: Path) -> SmallDetector:
    try:
        with safe_open(str(path), framework="pt") as stream:
            meta = json.loads((stream.metadata() or {}).get("vl4ad", "{}"))
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118 - not a dict
        if meta.pop("format", None) != _FORMAT:
            raise Vl4adError(f"{path}: not a small network of this version.")
        network = SmallDetector(SmallNetwork(**meta), torch.ones(meta["text_dim"]))
        network.load_state_dict(tensors)
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError, json.JSONDecodeError) as error:
        raise Vl4adError(f"{path}: cannot be read as a small network ({error}).") from error
    return network.eval()
