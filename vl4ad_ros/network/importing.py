"""Turning an FC-CLIP checkpoint into our files: the network, and CLIP's text tower for compiling prompt sets."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import open_clip
import torch
from open_clip.factory import load_state_dict
from pydantic import BaseModel, Field
from torch import Tensor

from vl4ad_ros.io.checked import read_json, validate
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import sha256_file
from vl4ad_ros.network.backbone import ClipBackbone, clip_settings
from vl4ad_ros.network.config import EnsembleConfig, NetworkConfig
from vl4ad_ros.network.fcclip import BACKBONE, CLIP, head_config, load_head, read_checkpoint, refuse_differences
from vl4ad_ros.network.head import SegmentationHead, VocabularyEnsemble
from vl4ad_ros.network.model import VL4ADNetwork
from vl4ad_ros.prompts.open_clip_encoder import reason
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet

TEXT_TOWER = "text_encoder.safetensors"
"""CLIP's text tower, in open_clip's own names, beside the network."""


class ImportedHead(NamedTuple):
    """A head in evaluation mode, with the checkpoint that it came from.

    Attributes:
        head: The head.
        state: All tensors of the checkpoint, by the reference's keys.
        source: The checkpoint's file.
    """

    head: SegmentationHead
    state: dict[str, Tensor]
    source: Path


def import_head(checkpoint: Path, num_heads: int | None = None) -> ImportedHead:
    """Load the head of a checkpoint, its sizes read from the tensors' shapes.

    Args:
        checkpoint: The file; a backbone in it is left alone.
        num_heads: Attention heads; None infers them.

    Raises:
        Vl4adError: If the file is no FC-CLIP checkpoint, or not a complete one of its head; differences are listed.
    """
    state = read_checkpoint(checkpoint)
    head = SegmentationHead(head_config(state, checkpoint, num_heads))
    load_head(head, state, checkpoint)
    return ImportedHead(head.eval(), state, checkpoint)


class _RecordConfig(BaseModel):
    """The part of a record's `config.json` that is used; there is more in it."""

    num_heads: int | None = Field(default=None, ge=1, strict=True)


def heads_beside(record: Path) -> int | None:
    """Return `num_heads` of the `config.json` beside recorded inputs and outputs, or None where nothing states it.

    Raises:
        Vl4adError: If the file is no JSON object, or what it states is no positive whole number.
    """
    path = record.parent / "config.json"
    return validate(_RecordConfig, read_json(path), path).num_heads if path.is_file() else None


def import_network(
    imported: ImportedHead,
    backbone: str,
    text_encoder: str,
    clip_weights: Path | None = None,
) -> tuple[VL4ADNetwork, dict[str, Tensor]]:
    """Join a head and CLIP's towers, without the out-of-vocabulary branch (`add_vocabulary`).

    Args:
        imported: The head.
        backbone: `open_clip:MODEL`, the towers' architecture.
        text_encoder: Id of the text encoder, for the record.
        clip_weights: open_clip's own weights file, for checkpoints without `backbone.*`.

    Returns:
        The network in evaluation mode, and the text tower's tensors by open_clip's names.

    Raises:
        Vl4adError: If the towers' weights are missing or are not of this architecture; differences are listed.
    """
    towers = _clip_state(imported, backbone, clip_weights)
    origin = f"FC-CLIP checkpoint {imported.source.name}, sha256 {sha256_file(imported.source)}"
    parts = {"backbone": backbone, "text_encoder": text_encoder, "head": imported.head.config, "origin": origin}
    network = VL4ADNetwork(validate(NetworkConfig, parts, imported.source))
    network.head.load_state_dict(imported.head.state_dict())
    visual = {key.removeprefix("visual."): value for key, value in towers.items() if key.startswith("visual.")}
    tower = network.backbone
    assert isinstance(tower, ClipBackbone)  # others have no tensors of CLIP's names
    tower.visual.load_state_dict(visual)
    tower.logit_scale.copy_(towers["logit_scale"])
    text = {key: value for key, value in towers.items() if not key.startswith("visual.")}
    return network.eval(), text


def add_vocabulary(network: VL4ADNetwork, vocabulary: CompiledPromptSet, on_valid_mask: bool = True) -> None:
    """Switch the out-of-vocabulary branch on.

    Args:
        network: Of `import_network`.
        vocabulary: The classes that it was trained with, compiled for its text encoder.
        on_valid_mask: As of `EnsembleConfig`.

    Raises:
        Vl4adError: If the vocabulary was compiled for another text encoder.
    """
    config = network.config
    if (vocabulary.encoder_id, vocabulary.dim) != (config.text_encoder, config.head.embedding_dim):
        raise Vl4adError(
            f"The training vocabulary '{vocabulary.name}' was compiled for '{vocabulary.encoder_id}' (dimension "
            f"{vocabulary.dim}), but the network needs '{config.text_encoder}' (dimension "
            f"{config.head.embedding_dim})."
        )
    ensemble = EnsembleConfig(
        vocabulary_size=len(vocabulary.concepts), templates=vocabulary.templates, on_valid_mask=on_valid_mask
    )
    network.config = config.model_copy(update={"ensemble": ensemble})
    network.ensemble = VocabularyEnsemble(ensemble, vocabulary.dim).eval()
    network.ensemble.vocabulary.copy_(torch.from_numpy(vocabulary.embeddings.copy()))


def _clip_state(imported: ImportedHead, backbone: str, clip_weights: Path | None) -> dict[str, Tensor]:
    """Return CLIP's tensors by open_clip's names, all of them and of the right shapes."""
    settings = clip_settings(backbone)
    if settings.get("custom_text") or "hf_model_name" in settings["text_cfg"]:
        raise Vl4adError(f"Unknown backbone '{backbone}': its text tower is not CLIP's own.")
    with torch.device("meta"):
        model = open_clip.CLIP(**settings).state_dict()
    prefix = CLIP if clip_weights is None else ""
    shapes = {prefix + key: tuple(value.shape) for key, value in model.items()}
    if clip_weights is None:
        given = {key: value for key, value in imported.state.items() if key.startswith(BACKBONE)}
        if not given:
            raise Vl4adError(
                f"{imported.source}: the checkpoint holds the head alone ({BACKBONE}* is missing); give open_clip's "
                "weights with --clip-weights FILE, or only check the head with --verify."
            )
    else:
        given = _read_clip_weights(clip_weights)
    refuse_differences(shapes, given, clip_weights or imported.source)
    return {key.removeprefix(prefix): value for key, value in given.items()}


def _read_clip_weights(path: Path) -> dict[str, Tensor]:
    try:
        loaded = dict(load_state_dict(str(path), weights_only=True))
    except Exception as error:  # readers of damaged files raise whatever the damage provokes
        raise Vl4adError(f"{path}: cannot be read as open_clip weights ({reason(error)}).") from error
    if not all(isinstance(value, Tensor) for value in loaded.values()):
        raise Vl4adError(f"{path}: not open_clip weights, expected names and tensors.")
    return loaded
