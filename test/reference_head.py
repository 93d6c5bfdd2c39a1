"""FC-CLIP's head once more: plain functions on a state dict in the reference's layout, written from the formulas.

Slow and literal (a loop over heads and sampling points), its computation shares no code with the package: heads of any
size get their expected outputs from here. It is itself compared with the golden.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vl4ad_ros.network.config import HeadConfig
from vl4ad_ros.network.fcclip import head_shapes
from vl4ad_ros.network.head import SegmentationHead

PIXEL, PREDICTOR = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
State = dict[str, Tensor]


def random_state(config: HeadConfig, seed: int) -> State:
    """Random tensors with the names and shapes of a checkpoint's head; norms and spreads as in a trained one."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for name, shape in head_shapes(SegmentationHead(config)).items():
        values = torch.randn(shape, generator=generator)
        norm = "norm" in name or (name.endswith((".1.weight", "pooling_proj.0.weight")) and len(shape) == 1)
        spread = 1.0 if "embed.weight" in name or "query" in name else 1 / math.sqrt(math.prod(shape[1:]) or 1)
        state[name] = 1 + 0.1 * values if norm and name.endswith("weight") else values * min(spread, 1.0)
    state[PREDICTOR + "logit_scale"] = torch.tensor(3.0)
    return state


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[name + ".weight"], state.get(name + ".bias"))


def norm(state: State, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[name + ".weight"], state[name + ".bias"])


def group_norm(state: State, name: str, x: Tensor) -> Tensor:
    return F.group_norm(x, 32, state[name + ".weight"], state[name + ".bias"])


def positions(dim: int, height: int, width: int) -> Tensor:
    """Sines and cosines of normalised row (first half) and column (second half): [dim, height, width]."""
    half = dim // 2
    table = np.zeros((dim, height, width))
    for channel in range(half):
        rate = 10000 ** (2 * (channel // 2) / half)
        wave = np.cos if channel % 2 else np.sin
        rows = (np.arange(height) + 1) / (height + 1e-6) * 2 * np.pi
        columns = (np.arange(width) + 1) / (width + 1e-6) * 2 * np.pi
        table[channel] = wave(rows / rate)[:, None]
        table[half + channel] = wave(columns / rate)[None, :]
    return torch.from_numpy(table).float()


def deformable_attention(
    state: State, name: str, query: Tensor, value: Tensor, shapes: list[tuple[int, int]], heads: int
) -> Tensor:
    """One picture: query [S, dim] with positions, value [S, dim] -> [S, dim]."""
    tokens, dim = query.shape
    width = dim // heads
    values = linear(state, name + ".value_proj", value).reshape(tokens, heads, width)
    offsets = linear(state, name + ".sampling_offsets", query).reshape(tokens, heads, 3, 4, 2)
    weights = (
        linear(state, name + ".attention_weights", query)
        .reshape(tokens, heads, 12)
        .softmax(-1)
        .reshape(tokens, heads, 3, 4)
    )
    centres = torch.cat(
        [
            torch.stack([(torch.arange(w) + 0.5).repeat(h) / w, (torch.arange(h) + 0.5).repeat_interleave(w) / h], -1)
            for h, w in shapes
        ]
    )
    result = torch.zeros(tokens, heads, width)
    start = 0
    for level, (h, w) in enumerate(shapes):
        for head in range(heads):
            plane = values[start : start + h * w, head].T.reshape(1, width, h, w)
            for point in range(4):
                place = centres + offsets[:, head, level, point] / torch.tensor([w, h])
                sampled = F.grid_sample(plane, (2 * place - 1)[None, None], align_corners=False)[0, :, 0].T
                result[:, head] += sampled * weights[:, head, level, point, None]
        start += h * w
    return linear(state, name + ".output_proj", result.reshape(tokens, dim))


def pixel_decoder(state: State, features: list[Tensor], heads: int) -> tuple[Tensor, list[Tensor]]:
    """Features [C, h, w] at strides 4..32 -> mask features, and maps at strides 32, 16, 8."""
    maps, places, shapes = [], [], []
    for level, feature in enumerate(features[:0:-1]):
        x = F.conv2d(
            feature[None], state[f"{PIXEL}input_proj.{level}.0.weight"], state[f"{PIXEL}input_proj.{level}.0.bias"]
        )
        x = group_norm(state, f"{PIXEL}input_proj.{level}.1", x)[0]
        shapes.append((int(x.shape[1]), int(x.shape[2])))
        maps.append(x.flatten(1).T)
        place = positions(x.shape[0], *shapes[-1]).flatten(1).T
        places.append(place + state[PIXEL + "transformer.level_embed"][level])
    x, place = torch.cat(maps), torch.cat(places)
    index = 0
    while f"{PIXEL}transformer.encoder.layers.{index}.linear1.weight" in state:
        name = f"{PIXEL}transformer.encoder.layers.{index}."
        x = norm(
            state, name + "norm1", x + deformable_attention(state, name + "self_attn", x + place, x, shapes, heads)
        )
        x = norm(state, name + "norm2", x + linear(state, name + "linear2", linear(state, name + "linear1", x).relu()))
        index += 1
    parts = torch.split(x, [h * w for h, w in shapes])
    scales = [part.T.reshape(-1, h, w) for part, (h, w) in zip(parts, shapes, strict=True)]
    lateral = group_norm(
        state, PIXEL + "adapter_1.norm", F.conv2d(features[0][None], state[PIXEL + "adapter_1.weight"])
    )
    up = F.interpolate(scales[-1][None], size=features[0].shape[1:], mode="bilinear", align_corners=False)
    y = F.conv2d(lateral + up, state[PIXEL + "layer_1.weight"], padding=1)
    y = group_norm(state, PIXEL + "layer_1.norm", y).relu()
    mask_features = F.conv2d(y, state[PIXEL + "mask_features.weight"], state[PIXEL + "mask_features.bias"])[0]
    return mask_features, scales


def attention(
    state: State, name: str, query: Tensor, key: Tensor, value: Tensor, heads: int, blocked: Tensor | None
) -> Tensor:
    weight, bias = state[name + ".in_proj_weight"].chunk(3), state[name + ".in_proj_bias"].chunk(3)
    q, k, v = (F.linear(x, w, b) for x, w, b in zip((query, key, value), weight, bias, strict=True))
    width = q.shape[1] // heads
    mixed = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = q[:, part] @ k[:, part].T / math.sqrt(width)
        if blocked is not None:
            scores = scores.masked_fill(blocked, -math.inf)
        mixed.append(scores.softmax(-1) @ v[:, part])
    return linear(state, name + ".out_proj", torch.cat(mixed, 1))


def mlp(state: State, name: str, x: Tensor) -> Tensor:
    for index in range(3):
        x = linear(state, f"{name}.layers.{index}", x if index == 0 else x.relu())
    return x


def predictor(
    state: State, scales: list[Tensor], mask_features: Tensor, text: Tensor, counts: list[int], heads: int
) -> tuple[Tensor, Tensor]:
    """Masks [N, h, w] and logits [N, classes + 1] of the last layer; `text` has the void embedding as its last row."""
    memory, places = [], []
    for level, scale in enumerate(scales):
        x = scale
        if f"{PREDICTOR}input_proj.0.weight" in state:
            x = F.conv2d(
                x[None], state[f"{PREDICTOR}input_proj.{level}.weight"], state[f"{PREDICTOR}input_proj.{level}.bias"]
            )[0]
        memory.append(x.flatten(1).T + state[PREDICTOR + "level_embed.weight"][level])
        places.append(positions(x.shape[0], *scale.shape[1:]).flatten(1).T)
    x, place = state[PREDICTOR + "query_feat.weight"], state[PREDICTOR + "query_embed.weight"]

    def masks_of(queries: Tensor) -> Tensor:
        return torch.einsum("nc,chw->nhw", mlp(state, PREDICTOR + "mask_embed", queries), mask_features)

    index = 0
    while f"{PREDICTOR}transformer_ffn_layers.{index}.linear1.weight" in state:
        level = index % 3
        masks = masks_of(norm(state, PREDICTOR + "decoder_norm", x))
        small = F.interpolate(masks[None], size=scales[level].shape[1:], mode="bilinear", align_corners=False)[0]
        blocked = small.flatten(1).sigmoid() < 0.5
        blocked[blocked.all(1)] = False
        name = f"{PREDICTOR}transformer_cross_attention_layers.{index}."
        key = memory[level] + places[level]
        x = norm(
            state,
            name + "norm",
            x + attention(state, name + "multihead_attn", x + place, key, memory[level], heads, blocked),
        )
        name = f"{PREDICTOR}transformer_self_attention_layers.{index}."
        x = norm(state, name + "norm", x + attention(state, name + "self_attn", x + place, x + place, x, heads, None))
        name = f"{PREDICTOR}transformer_ffn_layers.{index}."
        x = norm(state, name + "norm", x + linear(state, name + "linear2", linear(state, name + "linear1", x).relu()))
        index += 1
    queries = norm(state, PREDICTOR + "decoder_norm", x)
    masks = masks_of(queries)
    inside = (masks > 0).float()
    pooled = torch.einsum("nhw,chw->nc", inside, mask_features) / (inside.sum((1, 2)) + 1e-8)[:, None]
    pooled = linear(state, PREDICTOR + "_mask_pooling_proj.1", norm(state, PREDICTOR + "_mask_pooling_proj.0", pooled))
    v = F.normalize(mlp(state, PREDICTOR + "class_embed", pooled + queries), dim=-1)
    cosines = (v @ text.T) * min(math.exp(float(state[PREDICTOR + "logit_scale"])), 100.0)
    columns = [part.amax(1) for part in torch.split(cosines[:, :-1], counts, dim=1)]
    return masks, torch.stack([*columns, cosines[:, -1]], 1)


def expected_outputs(
    state: State, features: list[Tensor], text: Tensor, counts: list[int], heads: int
) -> dict[str, np.ndarray]:
    """All recorded outputs of one picture, in the golden's layout; `text` without the void row."""
    mask_features, scales = pixel_decoder(state, features, heads)
    void = F.normalize(state["void_embedding.weight"], dim=-1)
    masks, logits = predictor(state, scales, mask_features, torch.cat([text, void]), counts, heads)
    outputs = {"mask_features": mask_features, "pred_masks": masks, "pred_logits": logits}
    outputs |= {f"multi_scale_{index}": scale for index, scale in enumerate(scales)}
    return {name: value[None].numpy() for name, value in outputs.items()}
