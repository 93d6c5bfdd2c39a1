"""Time the component metrics against a plain loop over the components, on the same 2048x1024 frames, in one run.

Usage: PYTHONPATH=.:test python scripts/bench_component_metrics.py
"""

from __future__ import annotations

import time

import cv2
import numpy as np
from component_loop import loop_metrics

from vl4ad_ros.evaluation.component_metrics import TRACKS, match_components


def main() -> None:
    """Print the seconds per frame of both and their ratio."""
    rng = np.random.default_rng(0)
    track = TRACKS["obstacle"]
    spent = {"fast": 0.0, "loop": 0.0}
    objects = segments = 0
    for _ in range(4):
        smooth = [cv2.GaussianBlur(rng.normal(size=(1024, 2048)).astype(np.float32), (0, 0), s) for s in (7, 9)]
        labels = (smooth[0] > 2.2 * smooth[0].std()).astype(np.uint8)
        mask = smooth[0] + 0.3 * smooth[1] > 2 * smooth[0].std()
        start = time.perf_counter()
        fast = match_components(mask, labels, track)
        middle = time.perf_counter()
        siou, precision = loop_metrics(mask, labels, track)
        spent["fast"] += middle - start
        spent["loop"] += time.perf_counter() - middle
        if not (np.allclose(fast.siou, siou) and np.allclose(np.sort(fast.precision), np.sort(precision))):
            raise SystemExit("the two disagree")
        objects, segments = objects + len(siou), segments + len(precision)
    print(f"4 frames 2048x1024, {objects} objects, {segments} predicted components, equal results")
    print(
        f"loop {spent['loop'] / 4:.3f} s, fast {spent['fast'] / 4:.4f} s: {spent['loop'] / spent['fast']:.0f} times faster"
    )


if __name__ == "__main__":
    main()
