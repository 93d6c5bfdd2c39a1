"""The scores in plain NumPy, slow and close to the formulas; the graph form is compared with it.

Formulas: VL4AD (arXiv 2409.17330), Eq. 1 and 2, as docs/scoring.md quotes them. N queries, C = K + Q columns, the first
K in-distribution.
"""

from __future__ import annotations

import numpy as np

from vl4ad_ros.network.score_reference import Array, class_posterior


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
