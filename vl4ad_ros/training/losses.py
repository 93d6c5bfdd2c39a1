"""The loss terms of a dense learner.

Each term is returned as (sum, weight): the caller divides by the weight over all processes, so that two processes with
half a batch each have the gradient of one with the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vl4ad_ros.training.label_tables import IGNORE
from vl4ad_ros.training.learner import DenseLearner

ID_PIXELS_FOR_NAMES = 256
"""In-distribution pixels of a picture that take part in the names' loss, as things that have none of the names."""


@dataclass(frozen=True)
class Term:
    """A loss term.

    Attributes:
        total: weighted sum over pixels.
        weight: sum of the weights.
    """

    total: Tensor
    weight: Tensor


def union_log_probability(log_probability: Tensor, members: Tensor) -> Tensor:
    """Log of the summed probability of the member columns.

    Args:
        log_probability: [M,C].
        members: bool [M,C], at least one true in a row.

    Returns:
        [M].
    """
    return torch.logsumexp(log_probability.masked_fill(~members, -1e4), dim=1)


def pixel_terms(
    logits: Tensor, rows: Tensor, weights: Tensor, members: Tensor, row_weight: Tensor
) -> tuple[Term, Term]:
    """The loss with the void column, and the loss of the classes alone.

    A pixel whose label stands for several classes is right where their summed probability is 1. An object is right,
    with void, where void is 1; among the classes alone, where no class is more likely than another.

    Args:
        logits: [B,h,w,K+1], void last.
        rows: uint8 [B,H,W], rows of the label table, 255 ignored; H = 2h.
        weights: [B,H,W], of each pixel.
        members: bool [R,K]; the last row is void, all false.
        row_weight: [R].

    Returns:
        Both terms.
    """
    size = (rows.shape[1], rows.shape[2])
    resized = F.interpolate(logits.permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=False)
    valid = rows != IGNORE
    flat = resized.permute(0, 2, 3, 1)[valid]
    row = rows[valid].long()
    weight = row_weight[row] * weights[valid]
    is_void = row == len(members) - 1
    with_void = torch.cat([members, torch.zeros_like(members[:, :1])], dim=1)
    with_void[-1, -1] = True
    opened = -union_log_probability(flat.log_softmax(1), with_void[row])
    closed_log = flat[:, :-1].log_softmax(1)
    closed_members = torch.where(is_void[:, None], torch.ones_like(members[:1]), members[row])
    closed = torch.where(is_void, -closed_log.mean(1), -union_log_probability(closed_log, closed_members))
    return Term((weight * opened).sum(), weight.sum()), Term((weight * closed).sum(), weight.sum())


def name_term(
    learner: DenseLearner,
    embedding: Tensor,
    logits: Tensor,
    rows: Tensor,
    names: Tensor,
    members: Tensor,
    allowed: Tensor,
) -> Term:
    """Objects by name, among all trained names and all classes; in-distribution pixels take part with their classes.

    Args:
        learner: gives the names' logits.
        embedding: [B,h,w,d].
        logits: [B,h,w,K+1].
        rows: uint8 [B,2h,2w].
        names: int16 [B,h,w], -1: none.
        members: bool [R,K].
        allowed: bool [N], names that training may use.
    """
    own = names >= 0
    row = rows[:, ::2, ::2].long()
    known = (row < len(members) - 1) & ~own
    # An even grid of in-distribution pixels: cheap, and the same on every resume.
    count = max(1, int(known.sum()) // (ID_PIXELS_FOR_NAMES * len(rows)))
    known_flat = torch.nonzero(known.flatten()).flatten()[::count]
    chosen = torch.cat([torch.nonzero(own.flatten()).flatten(), known_flat])
    picked = embedding.flatten(0, 2)[chosen]
    name_logits = learner.name_logits(picked).masked_fill(~allowed, -1e4)
    joint = torch.cat([logits.flatten(0, 2)[chosen][:, :-1], name_logits], dim=1).log_softmax(1)
    targets = torch.zeros_like(joint, dtype=torch.bool)
    objects = int(own.sum())
    class_count = members.shape[1]
    targets[torch.arange(objects), class_count + names.flatten()[chosen[:objects]].long()] = True
    targets[objects:, :class_count] = members[row.flatten()[known_flat]]
    loss = -union_log_probability(joint, targets)
    return Term(loss.sum(), torch.tensor(float(len(chosen))))
