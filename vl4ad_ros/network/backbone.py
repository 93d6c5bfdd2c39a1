"""The frozen image tower: a ConvNeXt of open_clip (or plain timm), or a small EfficientNet-Lite0 for a CPU."""

from __future__ import annotations

from typing import Any

import open_clip
import timm
import torch
from open_clip.model import CLIPVisionCfg, _build_vision_tower
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.lite_encoder import FEATURE_CHANNELS, LiteEncoder

LITE = "efficientnet:lite0"
"""Name of the small backbone; it has no text space of its own."""

Features = tuple[Tensor, Tensor, Tensor, Tensor]


class FrozenBackbone(nn.Module):
    """An image tower that is never trained, always in evaluation mode.

    Normalised RGB, float [B, 3, H, W], H and W multiples of 32 -> features [B, channels[i], H / s, W / s], s = 4, 8,
    16, 32.
    """

    channels: tuple[int, ...]  # channels of the four features

    def train(self, mode: bool = True) -> FrozenBackbone:
        """Stay in evaluation mode whatever is asked: drop path and the like never apply to a frozen tower."""
        super().train(False)
        return self


class LiteBackbone(FrozenBackbone):
    """EfficientNet-Lite0, random until weights are loaded (`vl4ad_ros.network.lite_encoder.load_encoder_weights`)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = LiteEncoder()
        self.channels = FEATURE_CHANNELS
        self.requires_grad_(False).train(False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Features:
        """Return the features; see `FrozenBackbone`."""
        features: Features = self.encoder(image)
        return features


class ClipBackbone(FrozenBackbone):
    """CLIP's ConvNeXt image tower."""

    logit_scale: Tensor  # CLIP's own logit scale (logarithm), used by the out-of-vocabulary branch only

    def __init__(self, name: str, embedding_dim: int) -> None:
        """Build the tower `open_clip:MODEL` or `timm:MODEL` with random weights, without a download.

        `embedding_dim` is the width of CLIP's joint space for `timm:` (open_clip's configuration states its own).
        """
        super().__init__()
        # open_clip's image tower; its state dict has the names below `visual.` of an open_clip checkpoint.
        self.visual: Any = _tower(name, embedding_dim)
        self.register_buffer("logit_scale", torch.tensor(100.0).log())
        self.channels = tuple(int(info["num_chs"]) for info in self.visual.trunk.feature_info)
        self.requires_grad_(False).train(False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Features:
        """Return the features; see `FrozenBackbone`."""
        res2, res3, res4, res5 = self.visual.trunk.forward_intermediates(image, intermediates_only=True)
        return res2, res3, res4, res5

    def dense(self, res5: Tensor) -> Tensor:
        """Return CLIP's dense feature, which may be pooled: the stride-32 feature behind the trunk's last norm."""
        dense: Tensor = self.visual.trunk.norm_pre(res5)
        return dense

    def embed_pooled(self, pooled: Tensor) -> Tensor:
        """Apply CLIP's own head to pooled dense features: [B, N, channels[3]] -> [B, N, D], not normalised."""
        batch, queries, channels = pooled.shape
        x = self.visual.trunk.head(pooled.reshape(batch * queries, channels, 1, 1))
        embedding: Tensor = self.visual.head(x).reshape(batch, queries, -1)
        return embedding


def _tower(name: str, embedding_dim: int) -> Any:
    source, _, model = name.partition(":")
    if source == "timm":
        if model not in timm.list_models("convnext*"):
            raise Vl4adError(f"Unknown backbone '{name}': timm has no ConvNeXt of that name.")
        return TimmModel(model, embed_dim=embedding_dim, image_size=256, pool="", proj="mlp")
    settings = clip_settings(name, f", timm:MODEL with a ConvNeXt of timm, or {LITE}")
    vision = {**settings["vision_cfg"], "timm_model_pretrained": False}
    return _build_vision_tower(settings["embed_dim"], CLIPVisionCfg(**vision))


def clip_settings(name: str, also: str = "") -> dict[str, Any]:
    """Return open_clip's configuration of `open_clip:MODEL`, which has a ConvNeXt image tower."""
    source, _, model = name.partition(":")
    settings: dict[str, Any] | None = open_clip.get_model_config(model) if source == "open_clip" else None
    if settings is None or not str(settings["vision_cfg"].get("timm_model_name", "")).startswith("convnext"):
        known = [f"open_clip:{other}" for other in open_clip.list_models() if other.startswith("convnext")]
        raise Vl4adError(f"Unknown backbone '{name}': expected one of {known}{also}.")
    return settings
