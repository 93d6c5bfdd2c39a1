"""The scores in plain NumPy: slow, unpadded, and close to the formulas; the graph form is compared with it.

Formulas: VL4AD (arXiv 2409.17330), Eq. 1 and 2, as docs/scoring.md quotes them. N queries, P concepts, C = K + Q
columns, the first K in-distribution.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.runtime.scores import check_scoring

Array = NDArray[np.floating]


def column_cosines(cosines: Array, concept_column: NDArray[np.integer], num_columns: int) -> Array:
    """Max-logit prompt ensembling: the largest cosine of each column's concepts, [N, P] -> [N, C].

    `concept_column` [P] has the column of each concept; every column has at least one.
    """
    columns = [cosines[:, concept_column == column].max(axis=1) for column in range(num_columns)]
    return np.stack(columns, axis=1)


def class_posterior(cosines: Array, temperature: float, void: Array | None = None) -> Array:
    """Eq. 1: softmax of the cosines [N, C] over temperature.

    `void`, [N], cosines to a learned void embedding, is one more column of the softmax, left out of the result.
    """
    logits = cosines if void is None else np.concatenate([cosines, void[:, None]], axis=1)
    logits = logits / temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    posterior: Array = weights / weights.sum(axis=1, keepdims=True)
    return posterior[:, : cosines.shape[1]]


def anomaly_score(
    masks: Array,
    cosines: Array,
    num_id: int,
    temperature: float,
    scoring: str = "vl4ad",
    void: Array | None = None,
    dense: bool = False,
) -> Array:
    """Return the raw score u [H, W], higher = more anomalous, of masks s [N, H, W] in [0, 1] and column cosines [N, C].

    With S_k = sum_i s_i c_i[k], z = cos / T, and p_k = S_k / m + r / K, m = max(1, sum_{k<=K} S_k), r = max(0, 1 -
    sum_{k<=K} S_k), which spreads what no class claims over the K = `num_id` classes:

      vl4ad (Eq. 2): -max_{k<=K} S_k.
      msp: -max_{k<=K} p_k (maximum softmax probability, arXiv 1610.02136).
      max_logit: -max_{k<=K} sum_i s_i z_i[k].
      entropy: entropy of p over log K (0 for K = 1).
      rba: -sum_{k<=K} tanh(S_k) (RbA, arXiv 2211.14293).
      known_mass: -sum_{k<=K} S_k.

    Of a `dense` model, s one-hot, S_k sum to at most 1, where tanh would order by peakedness: there rba is known_mass.
    `void` is the cosine to the void embedding [N], or None.
    """
    check_scoring(scoring)
    posterior = class_posterior(cosines, temperature, void)
    weights = cosines / temperature if scoring == "max_logit" else posterior
    support = np.einsum("nhw,nk->khw", masks, weights[:, :num_id])
    if scoring in ("vl4ad", "max_logit"):
        return np.asarray(-support.max(axis=0))
    if scoring == "rba" and not dense:
        return np.asarray(-np.tanh(support).sum(axis=0))
    mass = support.sum(axis=0)
    if scoring in ("rba", "known_mass"):
        return np.asarray(-mass)
    p = support / np.maximum(mass, 1) + np.maximum(1 - mass, 0) / num_id
    if scoring == "msp":
        return np.asarray(-p.max(axis=0))
    return np.asarray(-(p * np.log(np.maximum(p, 1e-30))).sum(axis=0) / np.log(max(num_id, 2)))
