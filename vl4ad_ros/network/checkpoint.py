"""Our files of a mask network: `network.json` (sizes) and `network.safetensors` (weights) in one folder, no pickle."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vl4ad_ros.io.checked import read_json, validate
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.config import PRESETS, NetworkConfig
from vl4ad_ros.network.fcclip import refuse_differences
from vl4ad_ros.network.model import VL4ADNetwork

CONFIG = "network.json"
WEIGHTS = "network.safetensors"


def save_network(network: VL4ADNetwork, folder: str | Path) -> tuple[Path, Path]:
    """Write a network's sizes and weights into a folder, made if needed; return the two files.

    The sizes are written last: a folder with a `network.json` is complete.

    Raises:
        Vl4adError: If the folder cannot be written.
    """
    path = Path(folder)
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    temporary = path / f".{WEIGHTS}.part"
    try:
        path.mkdir(parents=True, exist_ok=True)
        save_file(tensors, str(temporary))
        temporary.chmod(0o644)  # safetensors lets nobody else read what it writes
        temporary.replace(path / WEIGHTS)
        (path / CONFIG).write_text(network.config.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise Vl4adError(f"{path}: the network cannot be written ({error}).") from error
    return path / WEIGHTS, path / CONFIG


def load_config(name_or_folder: str | Path) -> NetworkConfig:
    """Return the sizes of a preset (`PRESETS`), of a `.json` file or of a network's folder.

    Raises:
        Vl4adError: If there is no such thing, or the file is wrong.
    """
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
    """Load a network, in evaluation mode, on the CPU.

    Raises:
        Vl4adError: If a file is missing or damaged, or the weights are not those of the sizes (differences listed).
    """
    path = Path(folder)
    if not (path / CONFIG).is_file():
        raise Vl4adError(f"{path}: not a network, it has no {CONFIG}; make one with 'vl4ad import-fcclip' or 'train'.")
    network = VL4ADNetwork(load_config(path))
    try:
        tensors = load_file(str(path / WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise Vl4adError(f"{path / WEIGHTS}: cannot be read ({error}).") from error
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    refuse_differences(shapes, tensors, path / WEIGHTS)
    network.load_state_dict(tensors)
    return network.eval()
