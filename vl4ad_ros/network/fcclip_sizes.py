"""A head's sizes, read from the shapes of the tensors of an FC-CLIP checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vl4ad_ros.io.checked import validate
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.config import HeadConfig
from vl4ad_ros.network.decoder import LEVELS, POINTS
from vl4ad_ros.network.fcclip import PIXEL, PREDICTOR

# Size -> the tensor that tells it, and the axis.
_TENSORS: dict[str, tuple[str, int]] = {
    "stride 4": (PIXEL + "adapter_1.weight", 1),
    "stride 8": (PIXEL + "input_proj.2.0.weight", 1),
    "stride 16": (PIXEL + "input_proj.1.0.weight", 1),
    "stride 32": (PIXEL + "input_proj.0.0.weight", 1),
    "conv_dim": (PIXEL + "mask_features.weight", 1),
    "mask_dim": (PIXEL + "mask_features.weight", 0),
    "attention_rows": (PIXEL + "transformer.encoder.layers.0.self_attn.attention_weights.weight", 0),
    "encoder_ffn": (PIXEL + "transformer.encoder.layers.0.linear1.weight", 0),
    "decoder_ffn": (PREDICTOR + "transformer_ffn_layers.0.linear1.weight", 0),
    "num_queries": (PREDICTOR + "query_feat.weight", 0),
    "hidden_dim": (PREDICTOR + "query_feat.weight", 1),
    "embedding_dim": (PREDICTOR + "class_embed.layers.2.weight", 0),
}
_ENCODER_LAYER = re.compile(re.escape(PIXEL) + r"transformer\.encoder\.layers\.(\d+)\.")
_DECODER_LAYER = re.compile(re.escape(PREDICTOR) + r"transformer_ffn_layers\.(\d+)\.")


def head_config(state: Mapping[str, Tensor], source: str | Path, num_heads: int | None = None) -> HeadConfig:
    """Infer a head's sizes from the shapes of a checkpoint.

    Args:
        state: Tensors by the reference's keys.
        source: Named in errors.
        num_heads: Attention heads; None infers them from the deformable attention, which has 3 scales and 4 points.

    Raises:
        Vl4adError: If a tensor that tells a size is missing (all of them are listed), or the sizes are impossible.
    """
    if not any(key.startswith((PIXEL, PREDICTOR)) for key in state):
        raise Vl4adError(f"{source}: not an FC-CLIP checkpoint, it has no {PIXEL}* and no {PREDICTOR}*.")
    missing = {key for key, axis in _TENSORS.values() if key not in state or state[key].ndim <= axis}
    if missing:
        raise Vl4adError(
            f"{source}: the head's sizes cannot be read; missing or damaged: {', '.join(sorted(missing))}."
        )
    sizes = {name: int(state[key].shape[axis]) for name, (key, axis) in _TENSORS.items()}
    rows = sizes.pop("attention_rows")
    values = {
        "feature_channels": [sizes.pop(f"stride {stride}") for stride in (4, 8, 16, 32)],
        **sizes,
        "num_heads": num_heads or rows // (LEVELS * POINTS),
        "encoder_layers": _count_layers(state, _ENCODER_LAYER),
        "decoder_layers": _count_layers(state, _DECODER_LAYER),
        "input_projection": PREDICTOR + "input_proj.0.weight" in state,
    }
    return validate(HeadConfig, values, f"{source}: the checkpoint's sizes are impossible")


def _count_layers(state: Mapping[str, Tensor], pattern: re.Pattern[str]) -> int:
    """Return how many layers have a tensor; a stray one cannot make billions of them."""
    return len({match[1] for match in map(pattern.match, state) if match})
