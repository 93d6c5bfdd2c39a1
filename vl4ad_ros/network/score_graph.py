"""The scores as a PyTorch graph over the padded prompt inputs: exportable, and what every engine runs.

Everywhere here `class_concepts` is int [C, L], `class_mask` [2, C] and `settings` [9], as
`vl4ad_ros.runtime.prompt_tensors` packs them; definitions as in docs/scoring.md.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from vl4ad_ros.runtime.scores import METHODS, SCORINGS

FAR_BELOW = -1.0e4
"""Stands for minus infinity where a column takes no part; finite, so that nothing turns into NaN, also in float16."""

_LEAST = 1.0e-30

STRIP_ROWS = 8
"""Mask rows whose probabilities are in memory at a time: 4 MB for 250 masks of width 512."""


def column_cosines(cosines: Tensor, class_concepts: Tensor) -> Tensor:
    """Max-logit prompt ensembling over the padded table: [..., P] -> [..., C]."""
    columns, length = class_concepts.shape
    # Concepts first: each gathered row is then one contiguous copy, instead of one number at a time.
    rows = cosines.reshape(-1, cosines.shape[-1]).transpose(0, 1)
    gathered = torch.index_select(rows, 0, class_concepts.reshape(-1))
    best = gathered.reshape(columns, length, -1).amax(dim=1)
    return best.transpose(0, 1).reshape(*cosines.shape[:-1], columns)


def class_weights(
    cosines: Tensor, class_concepts: Tensor, class_mask: Tensor, settings: Tensor, void: Tensor | None = None
) -> Tensor:
    """Eq. 1 per query or pixel: posteriors [..., C], or the logits where max-logit is selected; 0 where out of use.

    From cosines [..., P] and, or None, the cosine [...] to a learned void embedding.
    """
    takes_part = class_mask[0]
    logits = column_cosines(cosines, class_concepts) * settings[0]
    masked = logits * takes_part + (1 - takes_part) * FAR_BELOW
    columns = masked.shape[-1]
    with_void = masked if void is None else torch.cat([masked, void.unsqueeze(-1) * settings[0]], dim=-1)
    posterior = torch.softmax(with_void, dim=-1)[..., :columns]
    use_logits = settings[1 + SCORINGS.index("max_logit")]
    return (posterior + use_logits * (logits - posterior)) * takes_part


def _id_only(weights: Tensor, class_mask: Tensor) -> Tensor:
    """Give columns outside the first K a weight that no maximum picks, here, where the tensor is small."""
    is_id = class_mask[1]
    return weights * is_id + (1 - is_id) * FAR_BELOW


def score_weights(settings: Tensor) -> dict[str, Tensor]:
    """Return the weight of each score in `settings`; bundles of earlier versions know the first of them only."""
    return dict(zip(SCORINGS, settings[1 : -len(METHODS)].unbind(), strict=False))


def spread(support: Tensor, class_mask: Tensor, dim: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Return sum_k S_k, m = max(1, sum S) and r / K with r = max(0, 1 - sum S), for p_k = (S_k + r / K) / m.

    What no mask claims is spread over the classes, so that they are equally likely there.
    """
    mass = support.clamp(min=0).sum(dim=dim)
    return mass, mass.clamp(min=1), (1 - mass).clamp(min=0) / class_mask[1].sum()


def support_score(support: Tensor, class_mask: Tensor, settings: Tensor, dense: bool = False) -> Tensor:
    """Return the selected score [B, h, w] of S_k, as `class_support` gives it; of a dense model [B, h, w, C].

    Every pass over `support` costs as much as the rest of this stage, so there are few.
    """
    dim = -1 if dense else 1
    best = support.amax(dim=dim)
    mass, divisor, rest = spread(support, class_mask, dim)
    is_id = class_mask[1] if dense else class_mask[1][:, None, None]
    # Columns outside the first K end here; never 0, so that p log p is finite.
    unnormalised = (support.clamp(min=0) + rest.unsqueeze(dim) * is_id).clamp(min=_LEAST)
    entropy = divisor.log() - (unnormalised * unnormalised.log()).sum(dim=dim) / divisor
    scores = {
        "vl4ad": -best,
        "msp": -(best + rest) / divisor,
        "max_logit": -best,
        "entropy": entropy / class_mask[1].sum().clamp(min=2).log(),
        "rba": -mass if dense else -support.clamp(min=0).tanh().sum(dim=dim),
        "known_mass": -mass,
    }
    return torch.stack([scores[name] * weight for name, weight in score_weights(settings).items()]).sum(0)


def score_of_masks(mask_logits: Tensor, weights: Tensor, class_mask: Tensor, settings: Tensor) -> Tensor:
    """Score u [B, h, w] of a mask model at the masks' resolution: logits [B, N, h, w], weights of `class_weights`."""
    return support_score(class_support(mask_logits, weights, class_mask), class_mask, settings)


def class_support(mask_logits: Tensor, weights: Tensor, class_mask: Tensor) -> Tensor:
    """S_k = sum_i c_i[k] s_i, s = sigmoid(x), of logits x [B, N, h, w] and weights c [B, N, C]: [B, C, h, w].

    Columns outside the first K are 0 or far below all others.
    """
    columns = _id_only(weights, class_mask).transpose(1, 2)
    strips = []
    # In strips, a mask's probabilities are used while they are in the cache, and memory for all of them is not needed.
    for logits in row_strips(mask_logits, STRIP_ROWS):
        strips.append(torch.matmul(columns, logits.sigmoid().flatten(2)).float())
    return torch.cat(strips, dim=2).reshape(*columns.shape[:2], *mask_logits.shape[2:])


def row_strips(planes: Tensor, rows: int, overlap: int = 0) -> list[Tensor]:
    """Cut [B, C, h, w] into strips of `rows` rows and `overlap` of the next; whole where a graph's h is left free."""
    height = cast("int | torch.SymInt", planes.shape[2])
    if isinstance(height, torch.SymInt):
        return [planes]
    return [planes[:, :, start : start + rows + overlap] for start in range(0, height - overlap, rows)]


def dense_score(
    cosines: Tensor, class_concepts: Tensor, class_mask: Tensor, settings: Tensor, void: Tensor | None = None
) -> Tensor:
    """Score u [B, h, w] of a dense model: one query per pixel, s one-hot, so that S_k is the pixel's own weight.

    Cosines are [B, h, w, P], void [B, h, w] or None; arguments as of `class_weights`.
    """
    weights = class_weights(cosines, class_concepts, class_mask, settings, void)
    return support_score(_id_only(weights, class_mask), class_mask, settings, dense=True)


# The random-word network inside the graph: its weights are inputs like a prompt set. A network computes v . row for
# `random_word_rows` as it computes the cosines with the text: both are linear in the text, so this is also exact where
# v itself is never formed (a low-rank projection). `probability` (`mean_probability`) and `blend` do the rest.


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
