"""The pixel and query decoders: the Mask2Former modules of transformers, which compute what the reference does."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.mask2former.configuration_mask2former import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerMaskPredictor,
    Mask2FormerPixelDecoder,
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention,
    Mask2FormerPreTrainedModel,
    Mask2FormerSinePositionEmbedding,
    Mask2FormerTransformerModule,
)

from vl4ad_ros.network.config import HeadConfig

LEVELS = 3
"""Scales that the deformable attention and the query decoder see: strides 32, 16, 8."""

POINTS = 4
"""Sampling points of the deformable attention per head and scale (fixed in transformers as in the reference)."""


class DecoderState(NamedTuple):
    """Queries after a layer of the query decoder, with their masks."""

    queries: Tensor  # [B, N, hidden_dim], behind the decoder's last norm
    mask_logits: Tensor  # [B, N, h, w] at stride 4


def _transformers_config(config: HeadConfig) -> Mask2FormerConfig:
    return Mask2FormerConfig(
        feature_size=config.conv_dim,
        mask_feature_size=config.mask_dim,
        hidden_dim=config.hidden_dim,
        encoder_feedforward_dim=config.encoder_ffn,
        encoder_layers=config.encoder_layers,
        decoder_layers=config.decoder_layers + 1,  # there, the prediction from the bare queries counts as a layer
        num_attention_heads=config.num_heads,
        dropout=0.0,
        dim_feedforward=config.decoder_ffn,
        enforce_input_projection=config.input_projection,
        num_queries=config.num_queries,
    )


class _SharedPositions(Mask2FormerSinePositionEmbedding):
    """The same positions for every picture of a batch, made once: in an exported graph of fixed size, a constant."""

    def forward(
        self, shape: torch.Size, device: torch.device | str, dtype: torch.dtype, mask: Tensor | None = None
    ) -> Tensor:
        """Return [1, C, h, w] for features of the shape [B, C, h, w]."""
        positions: Tensor = super().forward(torch.Size((1, *shape[1:])), device, dtype, mask)
        return positions


class PixelDecoder(Mask2FormerPixelDecoder):
    """The multi-scale deformable-attention pixel decoder, initialised as the reference does."""

    def __init__(self, config: HeadConfig) -> None:
        settings = _transformers_config(config)
        with warnings.catch_warnings():
            # On head widths that are no power of two: advice for a CUDA kernel that is not used here.
            warnings.simplefilter("ignore")
            super().__init__(settings, feature_channels=list(config.feature_channels))
        self.position_embedding = _SharedPositions(config.conv_dim // 2, normalize=True)
        nn.init.normal_(self.level_embed)
        for name, parameter in [*self.encoder.named_parameters(), *self.input_projections.named_parameters()]:
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith(".0.bias"):
                nn.init.zeros_(parameter)
        initialise = Mask2FormerPreTrainedModel(settings)._init_weights
        for module in self.modules():
            if isinstance(module, Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention):
                initialise(module)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Features at strides 4..32 -> mask features [B, mask_dim, h, w] at 4, and [B, conv_dim, ., .] at 32, 16, 8."""
        output = super().forward(list(features), output_attentions=False, output_hidden_states=False)
        return output.mask_features, tuple(output.multi_scale_features)


class _AttentionMasks(Mask2FormerMaskPredictor):
    """Masks for the masked attention, made at the attention's resolution: stride 32, 16 or 8.

    Bilinear resizing is linear and the same for all channels, so resize(e . F) = e . resize(F): resizing the mask
    features F spares N masks at stride 4 after every layer.
    """

    def forward(
        self, outputs: Tensor, pixel_embeddings: Tensor, attention_mask_target_size: torch.Size | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return mask logits [B, N, h, w] of the attention's size, and where attention is blocked [B, N, h w].

        From queries [N, B, hidden_dim] and mask features F, [B, mask_dim, ., .] at stride 4.
        """
        small = F.interpolate(pixel_embeddings, attention_mask_target_size, mode="bilinear", align_corners=False)
        masks: tuple[Tensor, Tensor] = super().forward(outputs, small, attention_mask_target_size)
        return masks


class _CrossAttention(nn.MultiheadAttention):
    """Masked attention with one mask for all heads, in torch's fused form."""

    def forward(  # type: ignore[override]
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor, key_padding_mask: None = None
    ) -> tuple[Tensor, None]:
        """Mix values [S, B, D] for queries [N, B, D]: [N, B, D]; `attn_mask` is True where attention is blocked."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(-1, (self.num_heads, -1)).permute(1, 2, 0, 3)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=~attn_mask.unsqueeze(1))
        output: Tensor = self.out_proj(mixed.permute(2, 0, 1, 3).flatten(-2))
        return output, None


class QueryDecoder(Mask2FormerTransformerModule):
    """The masked-attention query decoder."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__(in_features=config.conv_dim, config=_transformers_config(config))
        self.position_embedder = _SharedPositions(config.hidden_dim // 2, normalize=True)
        self.decoder.mask_predictor = _AttentionMasks(config.hidden_dim, 1, config.mask_dim)
        for layer in self.decoder.layers:
            layer.cross_attn = _CrossAttention(config.hidden_dim, config.num_heads)
            for name, parameter in layer.named_parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
                elif name.endswith(("in_proj_bias", "proj.bias")):
                    nn.init.zeros_(parameter)

    def forward(
        self, multi_scale: tuple[Tensor, ...], mask_features: Tensor, auxiliary: bool = False
    ) -> list[DecoderState]:
        """Turn the learned queries into masks.

        From maps at strides 32, 16, 8 and mask features [B, mask_dim, h, w] at stride 4. With `auxiliary` the states of
        all decoder_layers + 1 steps (for the losses after every layer), else the last one.
        """
        steps = super().forward(list(multi_scale), mask_features).intermediate_hidden_states
        queries = [step.transpose(0, 1) for step in (steps if auxiliary else steps[-1:])]
        embed = self.decoder.mask_predictor.mask_embedder
        return [DecoderState(q, torch.einsum("bnc,bchw->bnhw", embed(q), mask_features)) for q in queries]
