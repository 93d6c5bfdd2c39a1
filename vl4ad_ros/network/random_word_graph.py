"""The random-word network inside a VL4AD graph: exportable, its weights are graph inputs like a prompt set.

A network computes v . row for `random_word_rows` as it computes the cosines with the text: both are linear in the text,
so this is also exact where v itself is never formed (a low-rank projection). `probability` (of a mask model,
`mean_probability`) and `blend` do the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vl4ad_ros.runtime.scores import METHODS, SCORINGS


def probability(dots: Tensor, head: Tensor) -> Tensor:
    """p(anomalous) in [0, 1] from v . row [..., GRAPH_HIDDEN + 1] and the network's head [3, GRAPH_HIDDEN + 1].

    With x = normalise(v + shift), W1^T x = (W1^T v + W1^T shift) / |v + shift|, where |v + shift|^2 = 1 + 2 v . shift +
    |shift|^2.
    """
    hidden = dots.shape[-1] - 1
    squared = 1 + 2 * dots[..., hidden:] + head[0, hidden]
    first = (dots[..., :hidden] + head[0, :hidden]) * torch.rsqrt(squared.clamp(min=1e-6)) + head[1, :hidden]
    logits = torch.matmul(first.clamp(min=0), head[2, :hidden].unsqueeze(1)).squeeze(-1)
    return torch.sigmoid(logits + head[1, hidden])


def blend(raw: Tensor, p: Tensor, settings: Tensor) -> Tensor:
    """Mix VL4AD's u and p(anomalous), [B, h, w], as published; return the raw score that publishes as the mix.

    The last two of `settings` [9] are the methods' weights; with a random-word weight of 0, `raw` passes untouched.
    """
    # `to_uncertainty` publishes clip(offset + raw * scale).
    to_logits = settings[1 + SCORINGS.index("max_logit")]
    scale = 1 + to_logits * (1 / settings[0] - 1)
    offset = 1 - settings[1 + SCORINGS.index("entropy")]
    weights = settings[-len(METHODS) :]
    published = (offset + raw * scale).clamp(0, 1)
    mixed = (weights[0] * published + weights[1] * p) / (weights[0] + weights[1]).clamp(min=1e-6)
    return torch.where(weights[1] > 0, (mixed - offset) / scale, raw)


def mean_probability(mask_logits: Tensor, dots: Tensor, head: Tensor) -> Tensor:
    """p(anomalous) [B, h, w] of a mask model: the mean of the queries' p, weighted by their masks [B, N, h, w].

    `dots` [B, N, GRAPH_HIDDEN + 1] are v_i . row, the head is [3, GRAPH_HIDDEN + 1].
    """
    masks = mask_logits.sigmoid()
    total = torch.einsum("bn,bnhw->bhw", probability(dots, head), masks)
    return total / masks.sum(dim=1).clamp(min=1e-6)
