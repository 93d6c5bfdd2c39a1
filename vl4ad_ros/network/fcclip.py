"""FC-CLIP's checkpoint layout (detectron2 style): names, sizes and tensors, translated to ours.

The table goes from our names to the reference's, so that a network's complete list of expected reference keys can be
compared with a checkpoint: whatever is missing, unexpected or of another shape is listed and refused.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vl4ad_ros.io.checked import validate
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.config import HeadConfig
from vl4ad_ros.network.decoder import LEVELS, POINTS
from vl4ad_ros.network.head import SegmentationHead

PIXEL = "sem_seg_head.pixel_decoder."
PREDICTOR = "sem_seg_head.predictor."
BACKBONE = "backbone."
CLIP = BACKBONE + "clip_model."

# Constants of the reference's training loss and of old open_clip versions, which a checkpoint may carry.
_CONSTANTS = {"criterion.empty_weight", CLIP + "attn_mask"}

_LAYER = r"^query_decoder\.decoder\.layers\.(\d+)\."
_SELF = PREDICTOR + r"transformer_self_attention_layers.\1."
_CROSS = PREDICTOR + r"transformer_cross_attention_layers.\1."
_FFN = PREDICTOR + r"transformer_ffn_layers.\1."

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
        (_LAYER + r"self_attn\.[qkv]_proj\.(weight|bias)$", _SELF + r"self_attn.in_proj_\2"),
        (_LAYER + r"self_attn\.", _SELF + "self_attn."),
        (_LAYER + r"self_attn_layer_norm\.", _SELF + "norm."),
        (_LAYER + r"cross_attn\.", _CROSS + "multihead_attn."),
        (_LAYER + r"cross_attn_layer_norm\.", _CROSS + "norm."),
        (_LAYER + "fc", _FFN + "fc"),
        (_LAYER + r"final_layer_norm\.", _FFN + "norm."),
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

# The numbers in the state of optimisers, schedulers and hooks, under NumPy's old and new name.
_NUMBERS: list[Any] = [
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float32", "float64")),
    *((np.float64().__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]

STRIP = (
    "keep its weights alone, where it was trained: python3 -c \"import torch; c = torch.load('IN.pth', "
    "map_location='cpu', weights_only=False); torch.save({'model': c['model']}, 'OUT.pth')\" (this runs code that the "
    "file may hold: only with a file that you trust)."
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
        with torch.serialization.safe_globals(_NUMBERS):
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise Vl4adError(
            f"{path}: cannot be read as a checkpoint with weights only ({str(error).split(chr(10))[0]}). If it holds "
            f"the state of an optimiser or of hooks, {STRIP}"
        ) from error
    except Exception as error:  # torch.load raises whatever the damaged part of a file provokes
        reason = str(error).split("\n")[0]
        raise Vl4adError(f"{path}: cannot be read as a checkpoint with weights only ({reason}).") from error
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise Vl4adError(f"{path}: not an FC-CLIP checkpoint, expected names and tensors (under the key 'model').")
    return {str(key): value for key, value in state.items() if key not in _CONSTANTS}


def head_config(state: Mapping[str, Tensor], source: str | Path, num_heads: int | None = None) -> HeadConfig:
    """Read a head's sizes off the shapes of a checkpoint's tensors.

    Args:
        state: Tensors by the reference's keys.
        source: Named in errors.
        num_heads: Attention heads; None infers them from the deformable attention, which has 3 scales and 4 points.

    Raises:
        Vl4adError: If a tensor that states a size is missing, or the sizes are impossible.
    """

    def size(key: str, axis: int) -> int:
        shape = state[key].shape if key in state else ()
        if len(shape) <= axis:
            raise Vl4adError(f"{source}: not an FC-CLIP checkpoint; missing, or of another shape: {key}.")
        return int(shape[axis])

    def layers(pattern: str) -> int:
        return len({match[1] for match in (re.match(pattern, key) for key in state) if match})

    encoder, decoder = PIXEL + "transformer.encoder.layers.0.", PREDICTOR + "transformer_ffn_layers.0."
    values = {
        "feature_channels": [
            size(PIXEL + "adapter_1.weight", 1),
            *(size(f"{PIXEL}input_proj.{level}.0.weight", 1) for level in (2, 1, 0)),
        ],
        "conv_dim": size(PIXEL + "mask_features.weight", 1),
        "mask_dim": size(PIXEL + "mask_features.weight", 0),
        "hidden_dim": size(PREDICTOR + "query_feat.weight", 1),
        "num_queries": size(PREDICTOR + "query_feat.weight", 0),
        "num_heads": num_heads or size(encoder + "self_attn.attention_weights.weight", 0) // (LEVELS * POINTS),
        "encoder_layers": layers(re.escape(PIXEL) + r"transformer\.encoder\.layers\.(\d+)\."),
        "encoder_ffn": size(encoder + "linear1.weight", 0),
        "decoder_layers": layers(re.escape(PREDICTOR) + r"transformer_ffn_layers\.(\d+)\."),
        "decoder_ffn": size(decoder + "linear1.weight", 0),
        "embedding_dim": size("void_embedding.weight", 1),
        "input_projection": PREDICTOR + "input_proj.0.weight" in state,
    }
    return validate(HeadConfig, values, f"{source}: the checkpoint's sizes are impossible")


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


def refuse_differences(shapes: Mapping[str, tuple[int, ...]], given: Mapping[str, Tensor], source: str | Path) -> None:
    """Compare expected names and shapes with given tensors.

    Raises:
        Vl4adError: If they differ; every difference is listed, one a line.
    """
    missing = [f"missing: {key} {shape}" for key, shape in shapes.items() if key not in given]
    unexpected = [f"unexpected: {key} {tuple(given[key].shape)}" for key in given if key not in shapes]
    wrong = [
        f"wrong shape: {key} {tuple(given[key].shape)}, expected {shape}"
        for key, shape in shapes.items()
        if key in given and tuple(given[key].shape) != shape
    ]
    if missing or unexpected or wrong:
        faults = "\n  ".join([*missing, *unexpected, *wrong])
        raise Vl4adError(
            f"{source}: not a checkpoint of this network ({len(missing)} missing, {len(unexpected)} unexpected, "
            f"{len(wrong)} of another shape):\n  {faults}"
        )
