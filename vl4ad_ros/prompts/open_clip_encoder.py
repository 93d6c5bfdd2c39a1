"""CLIP's text tower, through open_clip: from a local weights file, from the model hub's cache, or random for tests."""

from __future__ import annotations

import contextlib
import difflib
import logging
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from huggingface_hub import constants, try_to_load_from_cache
from numpy.typing import NDArray
from open_clip.pretrained import download_pretrained, get_pretrained_cfg
from safetensors import safe_open
from safetensors.torch import load_file

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import check_safetensors
from vl4ad_ros.prompts.encoders import OPEN_CLIP_PREFIX as PREFIX

# Names of the weights in a hub repository, the safe format first.
_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

# Texts per pass of the tower: bounds the memory, about 1 GB for the text tower of convnext_large_d_320.
_BATCH = 64


class OpenClipEncoder:
    """A text tower of open_clip."""

    def __init__(self, encoder_id: str, weights: str | Path | None = None) -> None:
        """Load the text tower `open_clip:MODEL/PRETRAINED`; `MODEL/random` or `/random-SEED` is untrained, for tests.

        `weights` is a file of open_clip, or `text_encoder.safetensors` of `vl4ad import-fcclip`. None takes the model
        hub's cache, or downloads into it; the error says which file to download from where.
        """
        match = re.fullmatch(PREFIX + "([^/]+)/(.+)", encoder_id)
        if match is None:
            raise Vl4adError(f"Unknown text encoder '{encoder_id}': expected '{PREFIX}MODEL/PRETRAINED'.")
        model, pretrained = match.groups()
        settings = open_clip.get_model_config(model)
        if settings is None:
            near = difflib.get_close_matches(model, open_clip.list_models(), n=3, cutoff=0.4)
            raise Vl4adError(f"open_clip has no model '{model}' (did you mean one of {near}?).")
        self.id = encoder_id
        self.dim = int(settings["embed_dim"])  # D, the width of CLIP's joint space
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)  # open_clip warns that it has no weights where we load them ourselves
        try:
            self._model: Any = _build(model, pretrained, None if weights is None else Path(weights))
            self._tokenizer: Any = open_clip.get_tokenizer(model)
        except OSError as error:  # tokenizers of some models are on the model hub
            raise Vl4adError(f"The tokenizer of '{encoder_id}' cannot be loaded ({error}).") from error
        finally:
            logging.disable(level)
        self._text_alone = weights is not None and _is_text_tower(Path(weights))

    @property
    def visual(self) -> Any:
        """The image tower of the same model, in evaluation mode."""
        if self._text_alone:
            raise Vl4adError(f"The weights file of '{self.id}' holds the text tower alone; give the whole model's.")
        return self._model.visual

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Return float32 [len(texts), dim], rows of unit length."""
        with torch.inference_mode():
            parts = self._tokenizer(texts).split(_BATCH)
            rows = torch.cat([self._model.encode_text(part, normalize=True) for part in parts])
        return np.asarray(rows.float().numpy())


def _build(model: str, pretrained: str, weights: Path | None) -> Any:
    random = re.fullmatch("random(?:-([0-9]+))?", pretrained)
    if random is not None:
        if weights is not None:
            raise Vl4adError(f"'{PREFIX}{model}/{pretrained}' is random and takes no weights file.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(random[1] or 0))
            return open_clip.create_model(model, pretrained=None).eval()
    file = weights or _cached_or_downloaded(model, pretrained)
    if not file.is_file():
        raise Vl4adError(f"There is no weights file {file} for '{PREFIX}{model}/{pretrained}'.")
    try:
        if _is_text_tower(file):
            built = open_clip.create_model(model, pretrained=None)
            # As it is where the text tower alone is read; any other difference is an error.
            visual = {f"visual.{key}": value for key, value in built.visual.state_dict().items()}
            built.load_state_dict({**visual, **load_file(str(file))})
        else:
            built = open_clip.create_model(model, pretrained=str(file), weights_only=True)
    except Exception as error:  # readers of damaged or foreign files raise whatever the damage provokes
        raise Vl4adError(f"{file}: cannot be read as weights of open_clip's '{model}' ({reason(error)}).") from error
    return built.eval()


def reason(error: Exception) -> str:
    """Return in one line why open_clip could not read a weights file."""
    # open_clip takes whatever it finds in the file for a mapping of names to tensors, and asks for its first item.
    if isinstance(error, AttributeError | StopIteration):
        return "it holds no names and tensors"
    return " ".join(str(error).split())[:300]


def _is_text_tower(file: Path) -> bool:
    """Whether a file holds the text tower alone, as `vl4ad import-fcclip` writes it."""
    if file.suffix != ".safetensors":
        return False
    check_safetensors(file)
    with safe_open(str(file), framework="numpy") as stream:
        return not any(key.startswith("visual.") for key in stream.keys())  # noqa: SIM118 - not a dict


def _cached_or_downloaded(model: str, pretrained: str) -> Path:
    """Return the weights' file in the model hub's cache, downloaded if needed and possible."""
    source = get_pretrained_cfg(model, pretrained)
    if not source:
        tags = open_clip.list_pretrained_tags_by_model(model)
        raise Vl4adError(f"open_clip knows no weights '{pretrained}' for '{model}': expected one of {tags}.")
    repository, _, name = str(source.get("hf_hub") or "").rpartition("/")
    names = [name] if name else list(_HUB_FILES)
    for file in names if repository else ():
        cached = try_to_load_from_cache(repository, file)
        if isinstance(cached, str):
            return Path(cached)
    try:
        if repository:
            _reach_hub()
        return Path(download_pretrained(source))
    except Exception as error:  # the hub's client raises many kinds of errors
        on_hub = f"{' or '.join(map(repr, names))} of the Hugging Face repository '{repository}'"
        where = on_hub if repository else source.get("url")
        raise Vl4adError(
            f"The weights of '{PREFIX}{model}/{pretrained}' are not in the cache and cannot be downloaded from here "
            f"({' '.join(str(error).split())[:200]}). On a machine with internet download {where}, copy the file "
            "here, and give it as the weights file (--weights FILE)."
        ) from error


def _reach_hub() -> None:
    """Ask the model hub for a sign of life; the hub's client itself would try for the better part of a minute."""
    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    # An answer that refuses is an answer.
    with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=10):
        pass
