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
    """Compare the two where there are few and where there are many components."""
    for name, sigma in (("few", 40), ("many", 10)):
        compare(name, sigma, np.random.default_rng(0))


def compare(name: str, sigma: float, rng: np.random.Generator, frames: int = 3) -> None:
    """Run both on blobs of a typical size (pixels) and print the ratio."""
    track = TRACKS["obstacle"]
    fast_s = loop_s = 0.0
    objects = segments = 0
    for _ in range(frames):
        smooth = [
            cv2.GaussianBlur(rng.normal(size=(1024, 2048)).astype(np.float32), (0, 0), s * sigma) for s in (1, 1.3)
        ]
        smooth = [field / field.std() for field in smooth]
        labels = (smooth[0] > 2.2).astype(np.uint8)
        mask = smooth[0] + 0.3 * smooth[1] > 2
        start = time.perf_counter()
        fast = match_components(mask, labels, track)
        middle = time.perf_counter()
        siou, precision = loop_metrics(mask, labels, track)
        fast_s, loop_s = fast_s + middle - start, loop_s + time.perf_counter() - middle
        if not (
            np.allclose(np.sort(fast.siou), np.sort(siou)) and np.allclose(np.sort(fast.precision), np.sort(precision))
        ):
            raise SystemExit("the two disagree")
        objects, segments = objects + len(siou), segments + len(precision)
    print(f"{name} components: {frames} frames 2048x1024, {objects} objects, {segments} predicted, equal results;")
    print(f"  loop {loop_s / frames:.3f} s, fast {fast_s / frames:.4f} s a frame: {loop_s / fast_s:.0f} times faster")


if __name__ == "__main__":
    main()
