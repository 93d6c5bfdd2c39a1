"""A head's sizes, read from the shapes of the tensors of an FC-CLIP checkpoint."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vl4ad_ros.errors import Vl4adError
from vl4ad_ros.network.config import HeadConfig
from vl4ad_ros.network.decoder import LEVELS, POINTS
from vl4ad_ros.network.fcclip import PIXEL, PREDICTOR

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


def _size(state: Mapping[str, Tensor], what: str, source: str | Path) -> int:
    """Return the size that most witnesses tell."""
    told = {
        key: int(tensor.shape[axis])
        for pattern, axis in _WITNESSES[what]
        for key, tensor in state.items()
        if re.fullmatch(pattern, key) and tensor.ndim > axis
    }
    if not told:
        patterns = " or ".join(pattern.replace("\\", "") for pattern, _ in _WITNESSES[what])
        raise Vl4adError(f"{source}: not an FC-CLIP checkpoint, nothing tells {what} (missing: {patterns}).")
    ranking = Counter(told.values()).most_common(2)
    if len(ranking) == 2 and ranking[0][1] == ranking[1][1]:
        shapes = ", ".join(f"{key} {tuple(state[key].shape)}" for key in told)
        raise Vl4adError(f"{source}: wrong shape: the tensors disagree about {what}: {shapes}.")
    return ranking[0][0]


def _layers(state: Mapping[str, Tensor], pattern: str) -> int:
    found = [re.match(pattern + r"\.(\d+)\.", key) for key in state]
    return max((int(match[1]) + 1 for match in found if match), default=0)


def head_config(state: Mapping[str, Tensor], source: str | Path, num_heads: int | None = None) -> HeadConfig:
    """Infer a head's sizes from the shapes of a checkpoint.

    Args:
        state: Tensors by the reference's keys.
        source: Named in errors.
        num_heads: Attention heads; None infers them from the deformable attention, which has 3 scales and 4 points.

    Raises:
        Vl4adError: If no tensor tells a size, or the sizes are impossible.
    """
    heads = num_heads or _size(state, "rows of attention weights", source) // (LEVELS * POINTS)
    try:
        return HeadConfig(
            feature_channels=(
                _size(state, "stride 4 channels", source),
                _size(state, "stride 8 channels", source),
                _size(state, "stride 16 channels", source),
                _size(state, "stride 32 channels", source),
            ),
            conv_dim=_size(state, "conv_dim", source),
            mask_dim=_size(state, "mask_dim", source),
            hidden_dim=_size(state, "hidden_dim", source),
            num_heads=heads,
            encoder_layers=_layers(state, PIXEL + r"transformer\.encoder\.layers"),
            encoder_ffn=_size(state, "encoder_ffn", source),
            decoder_layers=_layers(state, PREDICTOR + r"transformer_\w+_layers"),
            decoder_ffn=_size(state, "decoder_ffn", source),
            num_queries=_size(state, "num_queries", source),
            embedding_dim=_size(state, "embedding_dim", source),
            input_projection=PREDICTOR + "input_proj.0.weight" in state,
        )
    except ValueError as error:
        raise Vl4adError(f"{source}: the checkpoint's sizes are impossible ({error}).") from error
