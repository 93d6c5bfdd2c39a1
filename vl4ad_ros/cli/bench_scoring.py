"""`vl4ad bench scoring`: the scoring stage at the masks' resolution, against upsampling every mask first, as is usual.

Usual (Mask2Former, FC-CLIP, RbA): N masks are resized to the image, passed through a sigmoid and combined with the
class posteriors. Ours (`vl4ad_ros.network.image_score`): the classes' maps at the masks' resolution, resized; the
finished score, resized; or the usual in strips.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from vl4ad_ros.cli.bench import measure, save
from vl4ad_ros.cli.options import Count, parse_size
from vl4ad_ros.io.children import end_with_parent
from vl4ad_ros.runtime.scores import SCORINGS, SETTINGS_SIZE

# What is resized (`NetworkConfig.resize`), and the usual form; for people.
FORMS = {
    "classes": "class maps up (default)",
    "score": "one map up",
    "masks": "all masks up, strip by strip",
    "usual": "all masks up, then einsum",
}


def scoring(
    *,
    queries: Count = 250,
    classes: Count = 19,
    ood: Count = 21,
    size: str = "1024x2048",
    threads: Count = 2,
    calls: Count = 5,
    seconds: float = 10.0,
    out: Path | None = None,
) -> None:
    """Measure Eq. 2 on the masks against upsampling them first.

    Args:
        queries: N.
        classes: K, in-distribution classes.
        ood: Q, out-of-distribution concepts.
        size: Of the image, HxW.
        threads: CPU threads.
        calls: Measured calls of each form, at least.
        seconds: How long each form is measured, at least.
        out: Write figures, versions and hardware as JSON.
    """
    height, width = parse_size(size)
    make = partial(make_form, queries=queries, classes=classes, ood=ood, height=height, width=width)
    figures = compare_scoring(make, threads, calls, seconds)
    print(f"N={queries}, K+Q={classes + ood}, {height}x{width}, {threads} CPU threads")
    print(f"{'':34}{'median ms':>11}{'ratio':>7}{'CPU ms':>11}{'ratio':>7}{'peak MiB':>10}{'ratio':>7}")
    for name, row in figures.items():
        print(
            f"{FORMS[name]:34}{row['median_ms']:11.1f}{row['speedup']:7.1f}{row['cpu_ms']:11.1f}"
            f"{row['cpu_speedup']:7.1f}{row['peak_mib']:10.0f}{row['memory_ratio']:7.1f}"
        )
    save(out, {"scoring": figures})


def compare_scoring(
    make: Callable[[str], Callable[[], Any]], threads: int, calls: int, seconds: float
) -> dict[str, dict[str, Any]]:
    """Time all forms on the same inputs, each in a process of its own.

    For each of `FORMS` the fields of `Timing`, `peak_mib` (memory beyond the inputs), and the ratios to `usual` in the
    same run: `speedup`, `cpu_speedup` and `memory_ratio`.
    """
    context = multiprocessing.get_context("spawn")
    figures: dict[str, dict[str, Any]] = {}
    for form in FORMS:
        with context.Pool(1, end_with_parent, (os.getpid(),)) as pool:
            figures[form] = pool.apply(_measure_form, (partial(make, form), threads, calls, seconds))
    usual = figures["usual"]
    for figure in figures.values():
        figure["speedup"] = round(usual["median_ms"] / figure["median_ms"], 1)
        figure["cpu_speedup"] = round(usual["cpu_ms"] / max(figure["cpu_ms"], 0.001), 1)
        figure["memory_ratio"] = round(usual["peak_mib"] / max(figure["peak_mib"], 0.1), 1)
    return figures


def _measure_form(make: Callable[[], Any], threads: int, calls: int, seconds: float) -> dict[str, Any]:
    """Run one form in this process; return its timing and its peak memory beyond the inputs, in MiB."""
    import torch

    torch.set_num_threads(threads)
    call = make()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.no_grad():
        timing = measure(call, calls, warm_up=1, seconds=seconds)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {**asdict(timing), "peak_mib": round(peak, 1)}


def make_form(form: str, queries: int, classes: int, ood: int, height: int, width: int) -> Callable[[], Any]:
    """Return a call that computes the full-size map [height, width] (a tensor) from random masks and cosines."""
    import torch
    import torch.nn.functional as F

    from vl4ad_ros.network.image_score import score_of_resized_classes, score_of_resized_masks
    from vl4ad_ros.network.score_graph import class_weights, score_of_masks

    generator = torch.Generator().manual_seed(0)
    size, columns = (height, width), classes + ood
    # In place: a second copy would count as memory of the inputs.
    masks = torch.randn(1, queries, height // 4, width // 4, generator=generator).mul_(4)
    cosines = torch.rand(1, queries, columns, generator=generator)
    concepts = torch.arange(columns, dtype=torch.int32).reshape(-1, 1)
    class_mask = torch.ones(2, columns)
    class_mask[1, classes:] = 0
    settings = torch.zeros(SETTINGS_SIZE)
    settings[0] = 1 / 0.07
    settings[1 + SCORINGS.index("vl4ad")] = 1

    def weights() -> torch.Tensor:
        return class_weights(cosines, concepts, class_mask, settings)

    def score() -> torch.Tensor:
        small = score_of_masks(masks, weights(), class_mask, settings)
        return F.interpolate(small[:, None], size, mode="bilinear", align_corners=False)[0, 0]

    def usual() -> torch.Tensor:
        large = F.interpolate(masks, size, mode="bilinear", align_corners=False).sigmoid()
        support = torch.einsum("bqc,bqhw->bchw", weights(), large)
        return -support[0, :classes].amax(dim=0)

    return {
        "classes": lambda: score_of_resized_classes(masks, weights(), class_mask, settings)[0],
        "score": score,
        "masks": lambda: score_of_resized_masks(masks, weights(), class_mask, settings)[0],
        "usual": usual,
    }[form]
