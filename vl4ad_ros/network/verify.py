"""Holding an imported head against recorded inputs and outputs of the reference implementation."""

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
    """Read recorded inputs (`res2`..`res5`, `text` [P, D], `num_templates` = concepts per class) and outputs.

    Raises:
        Vl4adError: If the file cannot be read, an array is missing or holds no numbers, or the texts do not go with
            their counts.
    """
    floats = (*FEATURES, "text", *OUTPUTS)
    record = read_npz(path, (*floats, "num_templates"))
    for name in floats:
        if not np.issubdtype(record[name].dtype, np.floating):
            raise Vl4adError(f"{path}: {name} must be floats, got {record[name].dtype} {record[name].shape}.")
    text, counts = record["text"], record["num_templates"]
    if text.ndim != 2:
        raise Vl4adError(f"{path}: text must be floats [P, D], got {text.dtype} {text.shape}.")
    if counts.ndim != 1 or not np.issubdtype(counts.dtype, np.integer) or (counts < 1).any():
        raise Vl4adError(f"{path}: num_templates must be whole numbers >= 1, one per class, got {counts.tolist()}.")
    if counts.sum() != len(text):
        raise Vl4adError(
            f"{path}: num_templates counts {counts.sum()} concepts in {len(counts)} classes, text has {len(text)} rows."
        )
    return record


def concept_table(counts: NDArray[np.generic]) -> torch.Tensor:
    """Return class_concepts [C, L] for classes whose concepts stand one after the other, `counts` of them each."""
    numbers = [int(count) for count in counts]
    starts = np.cumsum([0, *numbers[:-1]])
    length = max(numbers)
    rows = [
        [start + min(index, count - 1) for index in range(length)] for start, count in zip(starts, numbers, strict=True)
    ]
    return torch.tensor(rows)


@torch.no_grad()
def errors(head: SegmentationHead, record: dict[str, NDArray[np.generic]]) -> dict[str, float]:
    """Return the max abs error of each recorded output, by name; infinite where the shapes differ.

    The last two are held a second time, in the order of computation that inference and the exported graph use
    (docs/architecture.md), as `pred_masks (inference)` and `pred_logits (inference)`.

    Raises:
        Vl4adError: If the recorded inputs do not fit the head.
    """
    # As doubles: torch does not know every kind of float that NumPy stores.
    tensors = {key: torch.from_numpy(np.asarray(value, dtype=np.float64)) for key, value in record.items()}
    features = tuple(tensors[name].float() for name in FEATURES)
    text, table = tensors["text"].float(), concept_table(record["num_templates"])
    head.eval()
    try:
        mask_features, multi_scale = head.pixel_decoder(features)
        found = {"mask_features": mask_features} | {f"multi_scale_{i}": x for i, x in enumerate(multi_scale)}
        for suffix, auxiliary in (("", True), (" (inference)", False)):
            last = head(features, auxiliary)[-1]
            found[f"pred_masks{suffix}"] = last.mask_logits
            found[f"pred_logits{suffix}"] = head.class_logits(last, text, table)
    except (RuntimeError, IndexError) as error:
        reason = str(error).split("\n")[0]
        raise Vl4adError(f"The recorded inputs do not fit the checkpoint's head ({reason}).") from error
    return {name: _max_error(value, tensors[name.split(" ")[0]]) for name, value in found.items()}


def _max_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    if found.shape != expected.shape:
        return float("inf")
    worst = (found.double() - expected.double()).abs().max().item()
    # A value that is not a number must fail every tolerance.
    return float("inf") if worst != worst else worst
