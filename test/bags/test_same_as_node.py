"""Bags and the live node see the same picture in a message, each through its own decoder."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from vl4ad_ros.bags.images import message_to_rgb
from vl4ad_ros.nodes.images import decode

BYTES_PER_PIXEL = {
    "rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "8UC1": 1, "8UC3": 3, "8UC4": 4, "rgb16": 6, "bgr16": 6,
    "mono16": 2, "16UC1": 2, "bayer_rggb8": 1, "bayer_bggr8": 1, "bayer_gbrg8": 1, "bayer_grbg8": 1,
    "yuv422": 2, "uyvy": 2, "yuv422_yuy2": 2, "yuyv": 2,
}  # fmt: skip


@pytest.mark.parametrize("encoding", BYTES_PER_PIXEL)
@pytest.mark.parametrize("padding", [0, 12])
def test_same_pixels(encoding: str, padding: int) -> None:
    height, width = 12, 16
    step = width * BYTES_PER_PIXEL[encoding] + padding
    data = np.random.default_rng(1).integers(0, 256, step * height, dtype=np.uint8)
    message = SimpleNamespace(height=height, width=width, step=step, encoding=encoding, is_bigendian=0, data=data)
    live = decode(encoding, height, width, step, False, data.tobytes())
    recorded = message_to_rgb(message)
    # 16 bits: one takes the upper byte, the other scales; that is one grey level at most.
    assert np.abs(live.astype(int) - recorded).max() <= (1 if "16" in encoding else 0)
