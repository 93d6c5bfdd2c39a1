"""The score at the network's input size, four times the masks' along a side (`NetworkConfig.resize`).

Usual (Mask2Former, FC-CLIP, RbA) is: resize N mask logits, sigmoid, S_k = sum_i c_i[k] s_i, score. In one piece this
takes 2 GB at 250 queries and 1024x2048, and most of the scoring time. `score_of_resized_masks` does it strip by strip.

`score_of_resized_classes` makes S_k at the masks' resolution and resizes log(S_k / (1 - S_k)), which is what resizing
the mask does wherever one query explains a class (beyond 1, where queries overlap, S itself). The maximum over k is
found without K maps of the image's size: a class that is the largest at all four mask pixels around is the largest
between them, as bilinear weights are a convex combination; so only the largest classes of the corners are compared. A
class that is second at every corner and first nowhere can be missed.

Entropy, RbA and the known mass, which need each class at each pixel, are made at the masks' resolution and resized.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vl4ad_ros.network.score_graph import class_support, row_strips, score_weights, spread, support_score
from vl4ad_ros.runtime.scores import METHODS

FACTOR = 4
"""Network input pixels per mask pixel, along a side."""

STRIP_ROWS = 4
"""Mask rows of a strip of resized masks: 33 MB for 250 masks of width 512."""

CELL_ROWS = 64
"""Mask rows of a strip of class maps, so that the many small passes find it in the cache."""

_OF_CLASSES = ("vl4ad", "msp", "max_logit")
# A power of 2, so that 1 - _ALMOST and its distance to 1 are exact in float32.
_ALMOST = 2.0**-20
_TOP = math.log((1 - _ALMOST) / _ALMOST)
_PHASES = tuple((step + 0.5) / FACTOR for step in range(FACTOR))


def score_of_resized_classes(mask_logits: Tensor, weights: Tensor, class_mask: Tensor, settings: Tensor) -> Tensor:
    """Score u [B, 4 h, 4 w], with the class maps S_k resized; arguments as of `score_of_masks`."""
    use = score_weights(settings)
    support = class_support(mask_logits, weights, class_mask)
    # Edges repeated: the outermost image pixels lie outside the outermost mask pixels' centres.
    padded = F.pad(support, (1, 1, 1, 1), mode="replicate")
    strips = [_between_pixels(strip, class_mask, use) for strip in row_strips(padded, CELL_ROWS, overlap=1)]
    beyond = FACTOR // 2
    score = torch.cat(strips, dim=1)[:, beyond:-beyond, beyond:-beyond]
    return torch.stack([use[name] for name in _OF_CLASSES]).sum() * score + _resized_map(support, class_mask, settings)


def _between_pixels(support: Tensor, class_mask: Tensor, use: dict[str, Tensor]) -> Tensor:
    """Score of the FACTOR x FACTOR image pixels between every four of [B, C, h, w]: [B, 4 (h - 1), 4 (w - 1)]."""
    candidates = torch.stack(_corners(support.max(dim=1).indices), dim=1)
    _, mass, rest = spread(support, class_mask)
    share, divisor = use["msp"] * rest.unsqueeze(1), 1 + use["msp"] * (mass.unsqueeze(1) - 1)
    corners = [
        _log_odds((corner.gather(1, candidates) + added) / by, use["max_logit"])
        for corner, added, by in zip(_corners(support), _corners(share), _corners(divisor), strict=True)
    ]
    parts = []
    for down in _PHASES:
        left = torch.lerp(corners[0], corners[2], down)
        right = torch.lerp(corners[1], corners[3], down)
        parts += [torch.lerp(left, right, along).amax(dim=1) for along in _PHASES]
    best = F.pixel_shuffle(torch.stack(parts, dim=1), FACTOR)[:, 0]
    back = best.clamp(max=_TOP).sigmoid() + (best - _TOP).clamp(min=0)
    return -(back + use["max_logit"] * (best - back))


def score_of_resized_masks(mask_logits: Tensor, weights: Tensor, class_mask: Tensor, settings: Tensor) -> Tensor:
    """Score u [B, 4 h, 4 w], with all masks resized; arguments as of `score_of_masks`."""
    width = mask_logits.shape[3]
    use = score_weights(settings)
    is_id = class_mask[1]
    # Columns outside the first K never win the maximum; the last column gives the sum over the first K.
    columns = torch.cat([weights * is_id - 1e4 * (1 - is_id), (weights * is_id).sum(-1, keepdim=True)], dim=-1)
    columns = columns.transpose(1, 2)
    # One more row at both ends: with the edge repeated, every strip is resized as the whole would be.
    padded = F.pad(mask_logits, (0, 0, 1, 1), mode="replicate")
    strips = []
    for logits in row_strips(padded, STRIP_ROWS, overlap=2):
        resized = F.interpolate(logits, scale_factor=float(FACTOR), mode="bilinear", align_corners=False)
        masks = resized[:, :, FACTOR:-FACTOR].sigmoid().flatten(2)
        support = torch.matmul(columns, masks).float()
        best, mass = support[:, :-1].amax(dim=1), support[:, -1]
        msp = (best + (1 - mass).clamp(min=0) / is_id.sum()) / mass.clamp(min=1)
        score = -best * (use["vl4ad"] + use["max_logit"]) - msp * use["msp"]
        strips.append(score.reshape(-1, resized.shape[2] - 2 * FACTOR, FACTOR * width))
    small = class_support(mask_logits, weights, class_mask)
    return torch.cat(strips, dim=1) + _resized_map(small, class_mask, settings)


def _corners(planes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of every cell between four pixels: upper left, upper right, lower left, lower right; [..., h - 1, w - 1] each."""
    upper, lower = planes[..., :-1, :], planes[..., 1:, :]
    return upper[..., :-1], upper[..., 1:], lower[..., :-1], lower[..., 1:]


def _log_odds(value: Tensor, keep: Tensor) -> Tensor:
    """Log odds of a support, going on with slope 1 beyond 1; where `keep` is 1 (logits) the value itself."""
    bounded = value.clamp(_ALMOST, 1 - _ALMOST)
    odds = bounded.log() - (1 - bounded).log() + (value - 1).clamp(min=0)
    return odds + keep * (value - odds)


def _resized_map(support: Tensor, class_mask: Tensor, settings: Tensor) -> Tensor:
    """The other scores at the masks' resolution, the map resized; 0 where one of the classes' is selected."""
    # From slices: a tensor made of numbers would be copied from the host, which no CUDA graph can record.
    names = (None, *score_weights(settings), *METHODS)
    weights = zip(names, settings.split(1), strict=True)
    others = torch.cat([torch.zeros_like(w) if name in _OF_CLASSES else w for name, w in weights])
    small = torch.cat([support_score(part, class_mask, others) for part in row_strips(support, CELL_ROWS)], dim=1)
    return F.interpolate(small.unsqueeze(1), scale_factor=float(FACTOR), mode="bilinear", align_corners=False)[:, 0]
