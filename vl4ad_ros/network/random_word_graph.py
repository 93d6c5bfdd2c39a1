"""The random-word network inside a VL4AD graph: exportable, its weights are graph inputs like a prompt set.

A network takes the two inputs behind the usual ones as optional arguments `random_word_rows` and `random_word_head`. It
computes v . row for the rows exactly as it computes the cosines with the text: both are linear in the text, so this is
also exact where v itself is never formed (a low-rank projection of the text). `probability` (of a
mask model, `mean_probability`) and `blend` do the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vl4ad_ros.runtime.scores import METHODS, SCORINGS


def probability(dots: Tensor, head: Tensor) -> Tensor:
    """p(anomalous) from dot products with the network's rows.

    With x = normalise(v + shift), W1^T x = (W1^T v + W1^T shift) / |v + shift| and
    |v + shift|^2 = 1 + 2 v . shift + |shift|^2.

    Args:
        dots: [..., GRAPH_HIDDEN + 1], v . row.
        head: [3, GRAPH_HIDDEN + 1].

    Returns:
        [...], in [0, 1].
    """
    hidden = dots.shape[-1] - 1
    squared = 1 + 2 * dots[..., hidden:] + head[0, hidden]
    first = (dots[..., :hidden] + head[0, :hidden]) * torch.rsqrt(squared.clamp(min=1e-6)) + head[1, :hidden]
    logits = torch.matmul(first.clamp(min=0), head[2, :hidden].unsqueeze(1)).squeeze(-1)
    return torch.sigmoid(logits + head[1, hidden])


def blend(raw: Tensor, p: Tensor, settings: Tensor) -> Tensor:
    """Mix the two methods on the published range [0, 1], and return the raw score that publishes as the mix.

    Args:
        raw: VL4AD's u, [B, h, w].
        p: p(anomalous), [B, h, w].
        settings: [9]; the last two are the methods' weights. With a random-word weight of 0, `raw` passes untouched.

    Returns:
        [B, h, w]. For random_word alone, p - 1 (or what `to_uncertainty` maps to p for the scoring in force).
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
    """p(anomalous) of a mask model's pixels: the mean of the queries' p, weighted by their masks; to be blended.

    Args:
        mask_logits: [B, N, h, w].
        dots: [B, N, GRAPH_HIDDEN + 1], v_i . row for each of `random_word_rows`.
        head: [3, GRAPH_HIDDEN + 1].

    Returns:
        [B, h, w], in [0, 1].
    """
    masks = mask_logits.sigmoid()
    total = torch.einsum("bn,bnhw->bhw", probability(dots, head), masks)
    return total / masks.sum(dim=1).clamp(min=1e-6)
