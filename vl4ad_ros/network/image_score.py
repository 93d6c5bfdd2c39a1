"""The score with every mask resized to the network's input first, in strips, so that memory stays bounded.

Usual (Mask2Former, FC-CLIP) is: resize N masks by 4, sigmoid, combine with the class weights. In one piece this takes
N H W numbers, 2 GB at 250 queries and 1024x2048. Here it is done strip by strip with the same result, and on request
with a few queries of each strip only: those with the largest share that any pixel of the strip could get from them,

    b_i = max_{k<=K} |c_i[k]| max_{strip} s_i.

Bilinear resizing never leaves the range of its inputs, so S_k, and with it Eq. 2, is off by at most the sum of b_i over
the queries left out. Shapes are fixed, so the form runs in every runtime and in a CUDA graph.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vl4ad_ros.network.head import mask_probability
from vl4ad_ros.scoring.graph import mask_score_from_weights

FACTOR = 4
"""Network input pixels per mask pixel, along a side."""

STRIP_ROWS = 8
"""Mask rows of a strip: 64 MB for 250 masks of width 512 at the image's resolution."""


def image_score(
    mask_logits: Tensor, weights: Tensor, class_mask: Tensor, settings: Tensor, queries: int | None = None
) -> Tensor:
    """Score at the network's input resolution, from masks resized before the sigmoid.

    Args:
        mask_logits: [B, N, h, w].
        weights: [B, N, C], `vl4ad_ros.scoring.graph.class_weights`.
        class_mask: [2, C].
        settings: [8].
        queries: How many queries of each strip take part; None: all, which is exact.

    Returns:
        u, [B, 4 h, 4 w].
    """
    height = mask_logits.shape[2]
    largest = (weights.abs() * class_mask[1]).amax(dim=-1)
    # One more row at both ends: with the edge repeated, every strip is resized as the whole would be.
    padded = F.pad(mask_logits, (0, 0, 1, 1), mode="replicate")
    strips = []
    for start in range(0, height, STRIP_ROWS):
        logits = padded[:, :, start : min(start + STRIP_ROWS, height) + 2]
        chosen = weights
        if queries is not None and queries < mask_logits.shape[1]:
            share = largest * logits.flatten(2).amax(dim=-1).sigmoid()
            index = share.topk(queries, dim=1).indices
            logits = logits.gather(1, index[:, :, None, None].expand(-1, -1, logits.shape[2], logits.shape[3]))
            chosen = weights.gather(1, index[:, :, None].expand(-1, -1, weights.shape[2]))
        resized = F.interpolate(logits, scale_factor=float(FACTOR), mode="bilinear", align_corners=False)
        inner = mask_probability(resized[:, :, FACTOR:-FACTOR])
        strips.append(mask_score_from_weights(inner, chosen, class_mask, settings))
    return torch.cat(strips, dim=1)
