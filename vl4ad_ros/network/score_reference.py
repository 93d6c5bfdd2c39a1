"""Eq. 1 of VL4AD (arXiv 2409.17330) in plain NumPy, unpadded: N queries, P concepts, C = K + Q columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def column_cosines(cosines: Array, concept_column: NDArray[np.integer], num_columns: int) -> Array:
    """Max-logit prompt ensembling: the largest cosine of each column's concepts, [N, P] -> [N, C].

    `concept_column` [P] has the column of each concept; every column has at least one.
    """
    columns = [cosines[:, concept_column == column].max(axis=1) for column in range(num_columns)]
    return np.stack(columns, axis=1)


def class_posterior(cosines: Array, temperature: float, void: Array | None = None) -> Array:
    """Eq. 1: softmax of cosines [N, C] over T; `void` [N] is one more column, left out of the result."""
    logits = cosines if void is None else np.concatenate([cosines, void[:, None]], axis=1)
    logits = logits / temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    posterior: Array = weights / weights.sum(axis=1, keepdims=True)
    return posterior[:, : cosines.shape[1]]
