"""A head's sizes, read from the shapes of the tensors of an FC-CLIP checkpoint."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vl4ad_ros.io.checked import validate
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.config import HeadConfig
from vl4ad_ros.network.decoder import LEVELS, POINTS
from vl4ad_ros.network.fcclip import PIXEL, PREDICTOR, given_head, head_shapes, refuse_differences
from vl4ad_ros.network.head import SegmentationHead

# Size -> keys (patterns) and the axis of the tensor that tells it. Several witnesses each, so that one tensor of a
# wrong shape is named as the wrong one, instead of setting the size that all others are then measured by.
_WITNESSES: dict[str, tuple[tuple[str, int], ...]] = {
    "stride 4 channels": ((PIXEL + r"adapter_1\.weight", 1),),
    "stride 8 channels": ((PIXEL + r"input_proj\.2\.0\.weight", 1),),
    "stride 16 channels": ((PIXEL + r"input_proj\.1\.0\.weight", 1),),
    "stride 32 channels": ((PIXEL + r"input_proj\.0\.0\.weight", 1),),
    "conv_dim": (
        (PIXEL + r"input_proj\.\d\.[01]\.weight", 0),
        (PIXEL + r"transformer\.encoder\.layers\.\d+\.norm[12]\.weight", 0),
        (PIXEL + r"mask_features\.weight", 1),
    ),
    "mask_dim": (
        (PIXEL + r"mask_features\.(?:weight|bias)", 0),
        (PREDICTOR + r"mask_embed\.layers\.2\.(?:weight|bias)", 0),
        (PREDICTOR + r"_mask_pooling_proj\.0\.(?:weight|bias)", 0),
    ),
    "hidden_dim": (
        (PREDICTOR + r"query_(?:feat|embed)\.weight", 1),
        (PREDICTOR + r"decoder_norm\.(?:weight|bias)", 0),
        (PREDICTOR + r"transformer_ffn_layers\.\d+\.norm\.weight", 0),
    ),
    "rows of attention weights": (
        (PIXEL + r"transformer\.encoder\.layers\.\d+\.self_attn\.attention_weights\.(?:weight|bias)", 0),
    ),
    "encoder_ffn": (
        (PIXEL + r"transformer\.encoder\.layers\.\d+\.linear1\.(?:weight|bias)", 0),
        (PIXEL + r"transformer\.encoder\.layers\.\d+\.linear2\.weight", 1),
    ),
    "decoder_ffn": (
        (PREDICTOR + r"transformer_ffn_layers\.\d+\.linear1\.(?:weight|bias)", 0),
        (PREDICTOR + r"transformer_ffn_layers\.\d+\.linear2\.weight", 1),
    ),
    "num_queries": ((PREDICTOR + r"query_(?:feat|embed)\.weight", 0),),
    "embedding_dim": (
        (PREDICTOR + r"class_embed\.layers\.2\.(?:weight|bias)", 0),
        (r"void_embedding\.weight", 1),
    ),
}

# Layers of the two decoders: keys (pattern) with the layer's number.
_LAYERS = {
    "encoder_layers": PIXEL + r"transformer\.encoder\.layers\.(\d+)\..+",
    "decoder_layers": PREDICTOR + r"transformer_\w+_layers\.(\d+)\..+",
}


def _told(state: Mapping[str, Tensor], what: str) -> dict[str, int]:
    """Return what each witness says about a size, by its key."""
    return {
        key: int(tensor.shape[axis])
        for pattern, axis in _WITNESSES[what]
        for key, tensor in state.items()
        if re.fullmatch(pattern, key) and tensor.ndim > axis
    }


def _majority(told: Mapping[str, int]) -> int | None:
    """Return the size that most witnesses tell; None where there are none, or as many for another one."""
    ranking = Counter(told.values()).most_common(2)
    if not ranking or (len(ranking) == 2 and ranking[0][1] == ranking[1][1]):
        return None
    return ranking[0][0]


def _layers(state: Mapping[str, Tensor], pattern: str) -> int | None:
    """Return the number of layers: up to the last one that has at least half as many tensors as the fullest.

    So one stray tensor makes no layer, and one missing tensor takes none away.
    """
    found = [int(match[1]) for match in (re.fullmatch(pattern, key) for key in state) if match]
    tensors = Counter(index for index in found if index < len(state))  # no layer is without a tensor
    return max((index + 1 for index, count in tensors.items() if 2 * count >= max(tensors.values())), default=None)


def head_config(state: Mapping[str, Tensor], source: str | Path, num_heads: int | None = None) -> HeadConfig:
    """Infer a head's sizes from the shapes of a checkpoint.

    Args:
        state: Tensors by the reference's keys.
        source: Named in errors.
        num_heads: Attention heads; None infers them from the deformable attention, which has 3 scales and 4 points.

    Raises:
        Vl4adError: If the sizes are impossible, or a size cannot be told: then every tensor that is missing, unexpected
            or of another shape is listed, `?` in the place of that size.
    """
    if not any(key.startswith((PIXEL, PREDICTOR)) for key in state):
        raise Vl4adError(f"{source}: not an FC-CLIP checkpoint, it has no {PIXEL}* and no {PREDICTOR}*.")
    told = {what: _told(state, what) for what in _WITNESSES}
    sizes = {what: _majority(said) for what, said in told.items()}
    sizes |= {what: _layers(state, pattern) for what, pattern in _LAYERS.items()}
    rows = sizes.pop("rows of attention weights")
    sizes["num_heads"] = num_heads or (None if rows is None else rows // (LEVELS * POINTS))
    projected = sum(key.startswith(PREDICTOR + "input_proj.") for key in state) >= LEVELS  # half of weights and biases
    if None not in sizes.values():
        return _config(sizes, projected, 1, source)
    # The shapes of two heads that differ in nothing but the unknown sizes show where those matter.
    with torch.device("meta"):
        one, two = (head_shapes(SegmentationHead(_config(sizes, projected, guess, source))) for guess in (1, 2))
    expected = {
        key: tuple(a if a == b else None for a, b in zip(shape, two[key], strict=True)) for key, shape in one.items()
    }
    unsure = [
        f"the tensors disagree about {what}: " + ", ".join(f"{key} {tuple(state[key].shape)}" for key in said)
        for what, said in told.items()
        if said and _majority(said) is None
    ]
    unsure += [f"nothing tells the number of {what}: one layer's are listed" for what in _LAYERS if not sizes[what]]
    refuse_differences(expected, given_head(state), source, unsure)
    # A size is unknown where its witnesses are missing, lack a dimension or disagree: each of these was refused.
    raise AssertionError(sizes)


def _config(sizes: Mapping[str, int | None], projected: bool, guess: int, source: str | Path) -> HeadConfig:
    """Return a configuration, with a small multiple of `guess` for each size that is unknown."""
    heads = sizes["num_heads"] or guess
    hidden, conv = sizes["hidden_dim"], sizes["conv_dim"]
    if not projected:  # then they are the same
        hidden, conv = hidden or conv, conv or hidden
    same = ("mask_dim", "encoder_ffn", "decoder_ffn", "num_queries", "embedding_dim")
    values = {
        **{what: sizes[what] or guess for what in same},
        "feature_channels": [sizes[f"stride {stride} channels"] or guess for stride in (4, 8, 16, 32)],
        "conv_dim": conv or 32 * heads * guess,
        "hidden_dim": hidden or 2 * heads * guess,
        "num_heads": heads,
        "encoder_layers": sizes["encoder_layers"] or 1,
        "decoder_layers": sizes["decoder_layers"] or 1,
        "input_projection": projected,
    }
    return validate(HeadConfig, values, f"{source}: the checkpoint's sizes are impossible")
