"""Comparing an imported head with recorded inputs and outputs of the reference implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import read_npz
from vl4ad_ros.network.head import SegmentationHead

FEATURES = ("res2", "res3", "res4", "res5")
OUTPUTS = ("mask_features", "multi_scale_0", "multi_scale_1", "multi_scale_2", "pred_masks", "pred_logits")


def read_record(path: str | Path) -> dict[str, NDArray[np.generic]]:
    """Read recorded inputs (`res2`..`res5`, `text` [P, D], `num_templates` = concepts per class) and outputs."""
    record = read_npz(path, (*FEATURES, "text", *OUTPUTS, "num_templates"))
    for name, array in record.items():
        kind = np.integer if name == "num_templates" else np.floating
        if not np.issubdtype(array.dtype, kind):
            raise Vl4adError(f"{path}: {name} must be {kind.__name__}, got {array.dtype} {array.shape}.")
    text, counts = record["text"], record["num_templates"]
    if text.ndim != 2 or counts.ndim != 1 or (counts < 1).any() or counts.sum() != len(text):
        raise Vl4adError(
            f"{path}: expected text [P, D] and num_templates, whole numbers >= 1 with the sum P (concepts per class), "
            f"got text {text.shape} and num_templates {counts.tolist()}."
        )
    return record


def concept_table(counts: NDArray[np.generic]) -> torch.Tensor:
    """Return class_concepts [C, L] for classes whose concepts stand one after the other, `counts` of them each."""
    rows = torch.arange(int(counts.sum())).split([int(count) for count in counts])
    return torch.stack([torch.cat([row, row[:1].expand(int(counts.max()) - len(row))]) for row in rows])


@torch.no_grad()
def errors(head: SegmentationHead, record: dict[str, NDArray[np.generic]]) -> dict[str, float]:
    """Return the max abs error of each recorded output, by name; infinite where the shapes differ."""
    # As doubles: torch does not know every kind of float that NumPy stores.
    tensors = {key: torch.from_numpy(np.asarray(value, dtype=np.float64)) for key, value in record.items()}
    features = tuple(tensors[name].float() for name in FEATURES)
    table = concept_table(record["num_templates"])
    try:
        mask_features, multi_scale = head.eval().pixel_decoder(features)
        last = head(features)[-1]
        logits = head.class_logits(last, tensors["text"].float(), table)
    except (RuntimeError, IndexError) as error:
        fault = str(error).split("\n")[0]
        raise Vl4adError(f"The recorded inputs do not fit the checkpoint's head ({fault}).") from error
    found = (mask_features, *multi_scale, last.mask_logits, logits)
    return {name: _max_error(value, tensors[name]) for name, value in zip(OUTPUTS, found, strict=True)}


def _max_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    if found.shape != expected.shape:
        return float("inf")
    worst = (found.double() - expected.double()).abs().max()
    # A value that is not a number must fail every tolerance.
    return float(worst.nan_to_num(nan=torch.inf, posinf=torch.inf))
