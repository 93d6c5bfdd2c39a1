"""The camera and the ears of `vl4ad bench ros`."""

from __future__ import annotations

import subprocess
import time
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Float64

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.images import image_bytes
from vl4ad_ros.nodes.memory import keep_large_buffers
from vl4ad_ros.nodes.qos import BEST_EFFORT, OUTPUT, create_publisher, create_subscription
from vl4ad_ros.nodes.stats import STAGES

PATIENCE_S = 2.0
ROUND_TRIP = "round_trip"


class BenchClient:
    """Sends synthetic frames to /camera/image and collects the times that /detector reports."""

    def __init__(self, width: int, height: int, encoding: str) -> None:
        keep_large_buffers()
        rclpy.init(args=[])
        self._node = Node("bench")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        self._image = Image(height=height, width=width, encoding=encoding, step=width * 3, data=image_bytes(pixels))
        self._camera = create_publisher(self._node, Image, "/camera/image", BEST_EFFORT)
        # Serialized results: what this process would do with them is not the detector's cost.
        self._arrived = {"uncertainty": 0, "anomaly_mask": 0}
        for topic in self._arrived:
            create_subscription(self._node, Image, f"/detector/{topic}", partial(self._on_map, topic), OUTPUT, raw=True)
        self._times: dict[str, list[float]] = {}
        self.reset()
        for stage in STAGES:
            create_subscription(
                self._node, Float64, f"/detector/debug/{stage}_ms", partial(self._on_time, stage), OUTPUT
            )

    def __enter__(self) -> BenchClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.try_shutdown()

    def _on_map(self, topic: str, raw: bytes) -> None:
        del raw
        self._arrived[topic] += 1

    def _on_time(self, stage: str, message: Float64) -> None:
        self._times[stage].append(message.data)

    def reset(self) -> None:
        """Forget the times so far."""
        for stage in (*STAGES, ROUND_TRIP):
            self._times[stage] = []

    def milliseconds(self) -> dict[str, list[float]]:
        """Return the collected times by stage; `round_trip` is from before a frame is sent until both maps are here."""
        return self._times

    def connect(self, process: subprocess.Popen[bytes], deadline_s: float) -> None:
        """Wait until the detector answers a frame.

        Raises:
            Vl4adError: If it ends, or does not answer in time.
        """
        end = time.monotonic() + deadline_s
        while min(self._arrived.values()) == 0:
            if process.poll() is not None or time.monotonic() > end:
                raise Vl4adError("The detector did not start or did not answer; its log above says why.")
            if self._camera.get_subscription_count():
                self._camera.publish(self._image)
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                self._executor.spin_once(timeout_sec=0.1)

    def send(self, frames: int, rate: float) -> int:
        """Send frames; return how many of them got no result.

        Args:
            frames: How many.
            rate: Hz; 0 sends the next frame when both maps of the last one are here.
        """
        before = min(self._arrived.values())
        for index in range(frames):
            stamp: Any = self._node.get_clock().now().to_msg()
            self._image.header.stamp = stamp
            wanted = min(self._arrived.values()) + 1
            began = time.monotonic()
            self._camera.publish(self._image)
            until = began + (1 / rate if rate else PATIENCE_S)
            last = index == frames - 1
            while (now := time.monotonic()) < (began + PATIENCE_S if last else until):
                self._executor.spin_once(timeout_sec=max(0.0, until - now))
                if not rate and min(self._arrived.values()) >= wanted:
                    self._times[ROUND_TRIP].append((time.monotonic() - began) * 1e3)
                    break
        # The times are told after the maps.
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            self._executor.spin_once(timeout_sec=0.05)
        return max(0, frames - (min(self._arrived.values()) - before))
