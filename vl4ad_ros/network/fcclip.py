"""FC-CLIP's checkpoint layout (detectron2 style): names and tensors, translated to ours.

The table is kept from our names to the reference's, so that one network's complete list of expected reference keys can
be held against a checkpoint: whatever is missing, unexpected or of another shape is listed and refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.head import SegmentationHead

PIXEL = "sem_seg_head.pixel_decoder."
PREDICTOR = "sem_seg_head.predictor."
BACKBONE = "backbone."
CLIP = BACKBONE + "clip_model."

# Constants of the reference's training loss and of old open_clip versions, which a checkpoint may carry.
_CONSTANTS = {"criterion.empty_weight", CLIP + "attn_mask"}

# Our name below the head -> the reference's name; applied in turn, every matching one.
_RENAMES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^pixel_decoder\.input_projections\.", PIXEL + "input_proj."),
        (r"^pixel_decoder\.mask_projection\.", PIXEL + "mask_features."),
        (r"^pixel_decoder\.(level_embed|encoder\.)", PIXEL + r"transformer.\1"),
        (r"^pixel_decoder\.((?:adapter|layer)_\d+)\.0\.", PIXEL + r"\1."),
        (r"^pixel_decoder\.((?:adapter|layer)_\d+)\.1\.", PIXEL + r"\1.norm."),
        (r"(encoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.norm1."),
        (r"(encoder\.layers\.\d+)\.final_layer_norm\.", r"\1.norm2."),
        (
            r"^query_decoder\.decoder\.layers\.(\d+)\.self_attn\.[qkv]_proj\.(weight|bias)$",
            PREDICTOR + r"transformer_self_attention_layers.\1.self_attn.in_proj_\2",
        ),
        (
            r"^query_decoder\.decoder\.layers\.(\d+)\.self_attn\.",
            PREDICTOR + r"transformer_self_attention_layers.\1.self_attn.",
        ),
        (
            r"^query_decoder\.decoder\.layers\.(\d+)\.self_attn_layer_norm\.",
            PREDICTOR + r"transformer_self_attention_layers.\1.norm.",
        ),
        (
            r"^query_decoder\.decoder\.layers\.(\d+)\.cross_attn\.",
            PREDICTOR + r"transformer_cross_attention_layers.\1.multihead_attn.",
        ),
        (
            r"^query_decoder\.decoder\.layers\.(\d+)\.cross_attn_layer_norm\.",
            PREDICTOR + r"transformer_cross_attention_layers.\1.norm.",
        ),
        (r"^query_decoder\.decoder\.layers\.(\d+)\.fc", PREDICTOR + r"transformer_ffn_layers.\1.fc"),
        (r"^query_decoder\.decoder\.layers\.(\d+)\.final_layer_norm\.", PREDICTOR + r"transformer_ffn_layers.\1.norm."),
        (r"\.fc([12])\.", r".linear\1."),
        (r"^query_decoder\.decoder\.mask_predictor\.mask_embedder\.(\d+)\.0\.", PREDICTOR + r"mask_embed.layers.\1."),
        (r"^query_decoder\.decoder\.layernorm\.", PREDICTOR + "decoder_norm."),
        (r"^query_decoder\.queries_features\.", PREDICTOR + "query_feat."),
        (r"^query_decoder\.queries_embedder\.", PREDICTOR + "query_embed."),
        (r"^query_decoder\.input_projections\.", PREDICTOR + "input_proj."),
        (r"^query_decoder\.level_embed\.", PREDICTOR + "level_embed."),
        (r"^class_head\.pool_norm\.", PREDICTOR + "_mask_pooling_proj.0."),
        (r"^class_head\.pool_projection\.", PREDICTOR + "_mask_pooling_proj.1."),
        (r"^class_head\.embed\.(\d+)\.0\.", PREDICTOR + r"class_embed.layers.\1."),
        (r"^logit_scale$", PREDICTOR + "logit_scale"),
        (r"^void_embedding$", "void_embedding.weight"),
    )
)

_PART = re.compile(r"\.self_attn\.([qkv])_proj\.(?:weight|bias)$")


def reference_key(name: str) -> str:
    """Return the reference's key of a tensor of `SegmentationHead`; three of ours share one `in_proj_*`."""
    for pattern, replacement in _RENAMES:
        name = pattern.sub(replacement, name)
    return name


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read a checkpoint's tensors by the reference's keys, without running any code from the file.

    Raises:
        Vl4adError: If the file cannot be read safely or is no mapping of names to tensors.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damaged part of a file provokes
        reason = str(error).split("\n")[0]
        raise Vl4adError(f"{path}: cannot be read as a checkpoint with weights only ({reason}).") from error
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise Vl4adError(f"{path}: not an FC-CLIP checkpoint, expected names and tensors (under the key 'model').")
    return {str(key): value for key, value in state.items() if key not in _CONSTANTS}


def head_shapes(head: SegmentationHead) -> dict[str, tuple[int, ...]]:
    """Return the reference's keys of a head, each with the shape that it must have."""
    return {
        reference_key(name): (3 * tensor.shape[0], *tensor.shape[1:]) if _PART.search(name) else tuple(tensor.shape)
        for name, tensor in head.state_dict().items()
    }


def given_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return all tensors of a checkpoint that are not the backbone's."""
    return {key: value for key, value in state.items() if not key.startswith(BACKBONE)}


def load_head(head: SegmentationHead, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load the head's part of a checkpoint; keys under `backbone.` are left alone.

    Raises:
        Vl4adError: If a key is missing or unexpected or has another shape; every one of them is listed.
    """
    refuse_differences(head_shapes(head), given_head(state), source)
    loaded = {}
    for name in head.state_dict():
        part = _PART.search(name)
        tensor = state[reference_key(name)]
        loaded[name] = tensor.chunk(3)["qkv".index(part[1])] if part else tensor
    head.load_state_dict(loaded)


def refuse_differences(
    shapes: Mapping[str, tuple[int | None, ...]],
    given: Mapping[str, Tensor],
    source: str | Path,
    unsure: Sequence[str] = (),
) -> None:
    """Compare expected names and shapes with given tensors.

    Args:
        shapes: Expected names and shapes; None stands for a size that is not known.
        given: The tensors.
        source: Named in the error.
        unsure: Further faults to list.

    Raises:
        Vl4adError: If they differ; every difference is listed, one a line.
    """
    missing = [f"missing: {key} {_text(shape)}" for key, shape in shapes.items() if key not in given]
    unexpected = [f"unexpected: {key} {tuple(given[key].shape)}" for key in given if key not in shapes]
    wrong = [
        f"wrong shape: {key} {tuple(given[key].shape)}, expected {_text(shape)}"
        for key, shape in shapes.items()
        if key in given and not _fits(tuple(given[key].shape), shape)
    ]
    if missing or unexpected or wrong or unsure:
        faults = "\n  ".join([*missing, *unexpected, *wrong, *unsure])
        raise Vl4adError(
            f"{source}: not a checkpoint of this network ({len(missing)} missing, {len(unexpected)} unexpected, "
            f"{len(wrong)} of another shape):\n  {faults}"
        )


def _fits(given: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(given) == len(expected) and all(b in (None, a) for a, b in zip(given, expected, strict=True))


def _text(shape: tuple[int | None, ...]) -> str:
    return str(shape).replace("None", "?")
