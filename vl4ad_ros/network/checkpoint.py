"""Networks on disk, without pickle: a mask network in a folder of its own, and any network inside a bundle.

A mask network is `network.json` (sizes) and `network.safetensors` (weights); in a bundle they lie in `network/`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vl4ad_ros.io.checked import read_json, validate
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import atomic_write, check_safetensors, write_text
from vl4ad_ros.network.config import PRESETS, NetworkConfig
from vl4ad_ros.network.fcclip import refuse_differences
from vl4ad_ros.network.model import VL4ADNetwork
from vl4ad_ros.network.small import SmallDetector, SmallNetwork
from vl4ad_ros.runtime.bundle import ModelBundle

CONFIG = "network.json"
WEIGHTS = "network.safetensors"
BUNDLED = "network"
SMALL = "small.safetensors"
_SMALL_FORMAT = "vl4ad_ros.small/1"


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, whole or not at all."""
    try:
        with atomic_write(path) as part:
            on_cpu = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
            save_file(on_cpu, str(part), metadata)
    except SafetensorError as error:
        raise Vl4adError(f"{path}: cannot be written ({error}).") from error


def save_network(network: VL4ADNetwork, folder: str | Path) -> tuple[Path, Path]:
    """Write a network's weights and, last, its sizes into a folder: with a `network.json` it is complete."""
    path = Path(folder)
    (path / CONFIG).unlink(missing_ok=True)
    save_tensors(network.state_dict(), path / WEIGHTS)
    write_text(path / CONFIG, network.config.model_dump_json(indent=1) + "\n")
    return path / WEIGHTS, path / CONFIG


def load_config(name_or_folder: str | Path) -> NetworkConfig:
    """Return the sizes of a preset (`PRESETS`), of a `.json` file or of a network's folder."""
    path = Path(name_or_folder)
    file = path / CONFIG if path.is_dir() else path
    if file.is_file():
        return validate(NetworkConfig, read_json(file), file)
    if str(name_or_folder) in PRESETS:
        return PRESETS[str(name_or_folder)]
    raise Vl4adError(
        f"There is no network '{name_or_folder}': expected a folder with a {CONFIG} or one of {sorted(PRESETS)}."
    )


def load_network(folder: str | Path) -> VL4ADNetwork:
    """Load a network, in evaluation mode, on the CPU."""
    path = Path(folder)
    if not (path / CONFIG).is_file():
        raise Vl4adError(f"{path}: not a network, it has no {CONFIG}; make one with 'vl4ad import-fcclip' or 'train'.")
    network = VL4ADNetwork(load_config(path))
    try:
        check_safetensors(path / WEIGHTS)
        tensors = load_file(str(path / WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise Vl4adError(f"{path / WEIGHTS}: cannot be read ({error}).") from error
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    refuse_differences(shapes, tensors, path / WEIGHTS)
    network.load_state_dict(tensors)
    return network.eval()


def save_bundled_network(network: nn.Module, folder: Path) -> list[str]:
    """Write a network into a bundle's folder; return the files, relative to it, that belong under the card's hashes."""
    if isinstance(network, VL4ADNetwork):
        return [f"{BUNDLED}/{path.name}" for path in save_network(network, folder / BUNDLED)]
    if isinstance(network, SmallDetector):
        inner = network.network
        sizes = {"text_dim": inner.text_dim, "embed_dim": inner.embed_dim, "width": inner.width}
        meta = {"vl4ad": json.dumps({"format": _SMALL_FORMAT, **sizes})}
        save_tensors(network.state_dict(), folder / BUNDLED / SMALL, meta)
        return [f"{BUNDLED}/{SMALL}"]
    raise Vl4adError(f"A bundle cannot carry a {type(network).__name__}; expected a VL4ADNetwork or a SmallDetector.")


def load_bundled_network(bundle: ModelBundle) -> nn.Module:
    """Load the network of a bundle, in evaluation mode, on the CPU."""
    folder = bundle.path / BUNDLED
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
        check_safetensors(path)
        with safe_open(str(path), framework="pt") as stream:
            meta = json.loads((stream.metadata() or {}).get("vl4ad", "{}"))
        if meta.pop("format", None) != _SMALL_FORMAT:
            raise Vl4adError(f"{path}: not a small network of this version.")
        network = SmallDetector(SmallNetwork(**meta), torch.ones(meta["text_dim"]))
        network.load_state_dict(load_file(str(path)))
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError, ValueError, RecursionError) as error:
        raise Vl4adError(f"{path}: cannot be read as a small network ({error}).") from error
    return network.eval()
