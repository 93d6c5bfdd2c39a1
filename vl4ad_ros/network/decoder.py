"""The two decoders, on the Mask2Former parts of transformers, which compute what FC-CLIP's reference computes.

What differs here from `Mask2FormerTransformerModule.forward`, in speed and not in result:

- The masked attention needs each layer's masks at strides 32, 16 or 8 only. Bilinear resizing is linear and the same
  for all channels, so resize(e . F) = e . resize(F): the mask features F are resized once, instead of N full masks
  after every layer. With `auxiliary=True` (training, verification) the full masks exist anyway and are resized.
- One mask per query instead of one per query and head, and `scaled_dot_product_attention`.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.mask2former.configuration_mask2former import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerMaskedAttentionDecoderLayer,
    Mask2FormerPixelDecoder,
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention,
    Mask2FormerSinePositionEmbedding,
    Mask2FormerTransformerModule,
)

from vl4ad_ros.network.config import HeadConfig

LEVELS = 3
"""Scales that the deformable attention and the query decoder see: strides 32, 16, 8."""

POINTS = 4
"""Sampling points of the deformable attention per head and scale (fixed in transformers as in the reference)."""


class DecoderState(NamedTuple):
    """What one step of the query decoder yields.

    Attributes:
        queries: [B, N, hidden_dim], behind the decoder's last norm.
        mask_logits: [B, N, h, w] at stride 4.
    """

    queries: Tensor
    mask_logits: Tensor


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
    """The multi-scale deformable-attention pixel decoder, with its own initialisation."""

    def __init__(self, config: HeadConfig) -> None:
        with warnings.catch_warnings():
            # On head widths that are no power of two: advice for a CUDA kernel that is not used here.
            warnings.simplefilter("ignore")
            super().__init__(_transformers_config(config), feature_channels=list(config.feature_channels))
        self.position_embedding = _SharedPositions(config.conv_dim // 2, normalize=True)
        nn.init.normal_(self.level_embed)
        for projection in self.input_projections:
            nn.init.xavier_uniform_(projection[0].weight)
            nn.init.zeros_(projection[0].bias)
        for name, parameter in self.encoder.named_parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("proj.bias"):
                nn.init.zeros_(parameter)
        for module in self.modules():
            if isinstance(module, Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention):
                _spread_sampling_points(module)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Decode features at strides 4..32.

        Returns:
            Mask features [B, mask_dim, h, w] at stride 4, and three maps [B, conv_dim, ., .] at strides 32, 16, 8.
        """
        output = super().forward(list(features), output_attentions=False, output_hidden_states=False)
        return output.mask_features, tuple(output.multi_scale_features)


@torch.no_grad()
def _spread_sampling_points(attention: Any) -> None:
    """Start the sampling points on rays around the query, one per head (Deformable DETR, arXiv 2010.04159)."""
    angles = torch.arange(attention.n_heads) * (2 * math.pi / attention.n_heads)
    rays = torch.stack([angles.cos(), angles.sin()], dim=-1)
    rays = rays / rays.abs().amax(dim=-1, keepdim=True)
    steps = torch.arange(1, attention.n_points + 1)
    offsets = rays[:, None, None] * steps[:, None]
    attention.sampling_offsets.bias.copy_(offsets.expand(-1, attention.n_levels, -1, -1).reshape(-1))
    for parameter in (
        attention.sampling_offsets.weight,
        attention.attention_weights.weight,
        attention.attention_weights.bias,
    ):
        nn.init.zeros_(parameter)


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int, allowed: Tensor | None = None) -> Tensor:
    """Multi-head attention between projected [B, N, D] and [B, S, D]; `allowed` bool [B, N, S], True = may look."""

    def split(x: Tensor) -> Tensor:
        parts: Tensor = x.unflatten(-1, (heads, -1)).transpose(1, 2)
        return parts

    mask = None if allowed is None else allowed.unsqueeze(1)
    mixed = F.scaled_dot_product_attention(split(query), split(key), split(value), attn_mask=mask)
    merged: Tensor = mixed.transpose(1, 2).flatten(-2)
    return merged


def _decode_layer(
    layer: Mask2FormerMaskedAttentionDecoderLayer,
    x: Tensor,
    query_position: Tensor,
    memory: Tensor,
    memory_position: Tensor,
    allowed: Tensor,
) -> Tensor:
    """Masked cross-attention, self-attention, feed-forward net, each with a shortcut and a norm behind it."""
    cross = layer.cross_attn
    weights = cross.in_proj_weight.chunk(3)
    biases = cross.in_proj_bias.chunk(3)
    query = F.linear(x + query_position, weights[0], biases[0])
    key = F.linear(memory + memory_position, weights[1], biases[1])
    value = F.linear(memory, weights[2], biases[2])
    x = layer.cross_attn_layer_norm(x + cross.out_proj(_attend(query, key, value, cross.num_heads, allowed)))
    own = layer.self_attn
    placed = x + query_position
    mixed = _attend(own.q_proj(placed), own.k_proj(placed), own.v_proj(x), own.num_heads)
    x = layer.self_attn_layer_norm(x + own.out_proj(mixed))
    x = layer.final_layer_norm(x + layer.fc2(layer.activation_fn(layer.fc1(x))))
    return x


class QueryDecoder(Mask2FormerTransformerModule):
    """The masked-attention query decoder."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__(in_features=config.conv_dim, config=_transformers_config(config))
        self.position_embedder = _SharedPositions(config.hidden_dim // 2, normalize=True)
        for layer in self.decoder.layers:
            for name, parameter in layer.named_parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
                elif name.endswith(("in_proj_bias", "proj.bias")):
                    nn.init.zeros_(parameter)

    def forward(
        self, multi_scale: tuple[Tensor, ...], mask_features: Tensor, auxiliary: bool = False
    ) -> list[DecoderState]:
        """Turn the learned queries into masks.

        Args:
            multi_scale: Three maps at strides 32, 16, 8.
            mask_features: [B, mask_dim, h, w] at stride 4.
            auxiliary: Whether to return every step's state (for the losses after every layer) or the last one only.

        Returns:
            The states, the last one last; decoder_layers + 1 of them with `auxiliary`.
        """
        batch = mask_features.shape[0]
        query_position = self.queries_embedder.weight.unsqueeze(0).expand(batch, -1, -1)
        x = self.queries_features.weight.unsqueeze(0).expand(batch, -1, -1)
        levels = [self._memory(index, feature) for index, feature in enumerate(multi_scale)]
        sizes = [feature.shape[-2:] for feature in multi_scale]
        small = [] if auxiliary else [_resize(mask_features, size) for size in sizes]
        states = []
        for index, layer in enumerate(self.decoder.layers):
            level = index % LEVELS
            queries = self.decoder.layernorm(x)
            if auxiliary:
                states.append(self._state(queries, mask_features))
                masks = _resize(states[-1].mask_logits.detach(), sizes[level])
            else:
                masks = self._state(queries, small[level]).mask_logits
            memory, position = levels[level]
            x = _decode_layer(layer, x, query_position, memory, position, _allowed(masks))
        states.append(self._state(self.decoder.layernorm(x), mask_features))
        return states

    def _memory(self, index: int, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Flatten a map [B, C, h, w] to what the queries attend to: values and positions, both [B, h*w, hidden_dim]."""
        position = self.position_embedder(feature.shape, feature.device, feature.dtype, None)
        flat = self.input_projections[index](feature).flatten(2).transpose(1, 2) + self.level_embed.weight[index]
        return flat, position.flatten(2).transpose(1, 2)

    def _state(self, queries: Tensor, mask_features: Tensor) -> DecoderState:
        embeddings = self.decoder.mask_predictor.mask_embedder(queries)
        batch, channels, height, width = mask_features.shape
        logits = torch.matmul(embeddings, mask_features.reshape(batch, channels, height * width))
        return DecoderState(queries, logits.reshape(batch, -1, height, width))


def _resize(maps: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def _allowed(mask_logits: Tensor) -> Tensor:
    """Where each query may look: inside its mask, or everywhere if the mask is empty. bool [B, N, h*w]."""
    inside = mask_logits.flatten(2).sigmoid() >= 0.5
    return inside | ~inside.any(dim=-1, keepdim=True)
