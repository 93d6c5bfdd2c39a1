"""The two ends of `vl4ad bench ros`: a camera that measures, and a detector whose engine does nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Float64

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.images import image_bytes
from vl4ad_ros.nodes.detector import NAME, DetectorNode
from vl4ad_ros.nodes.executor import run_node
from vl4ad_ros.nodes.health import STAGES
from vl4ad_ros.nodes.memory import prepare_memory
from vl4ad_ros.nodes.obstacles import POINT
from vl4ad_ros.nodes.qos import BEST_EFFORT, OUTPUT
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.engine import EngineInfo, check_images
from vl4ad_ros.runtime.prompt_tensors import PromptTensors

PATIENCE_S = 2.0
ROUND_TRIP = "round_trip"
THINGS = 20


class NullEngine:
    """An engine that answers at once: a fixed ramp of the bundle's output size, with `THINGS` things on the road."""

    def __init__(self, bundle: ModelBundle) -> None:
        self._bundle = bundle
        self.info = EngineInfo(
            backend="null", device="none", library="", model="", model_sha256=bundle.onnx_sha256, precision="none"
        )

    def infer(self, images: NDArray[np.uint8], prompts: PromptTensors) -> NDArray[np.float32]:
        """Return u from -1 to 0, float32 [B, h, w], whatever the images show."""
        del prompts
        check_images(images)
        stride = self._bundle.card.stride
        rows, columns = images.shape[1] // stride, images.shape[2] // stride
        scores = np.empty((len(images), rows, columns), np.float32)
        scores[:] = np.linspace(-1, -0.5, columns, dtype=np.float32)
        for row in np.linspace(0.6, 0.9, 4) * rows:
            for column in np.linspace(0.1, 0.9, THINGS // 4) * columns:
                scores[:, int(row) : int(row) + 2, int(column) : int(column) + 2] = 0
        return scores

    def close(self) -> None:
        """Nothing is held."""


def open_null(bundle: str, *_: object) -> Detector:
    """Load a bundle's card and prompts, and no network."""
    loaded = ModelBundle.load(bundle)
    return Detector(loaded, NullEngine(loaded))


class BenchClient:
    """Sends synthetic frames to /camera/image and collects the times that /detector reports."""

    def __init__(self, width: int, height: int, encoding: str) -> None:
        prepare_memory()
        rclpy.init(args=[])
        self._node = Node("bench")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        self._image = Image(height=height, width=width, encoding=encoding, step=width * 3, data=image_bytes(pixels))
        self._camera = self._node.create_publisher(Image, "/camera/image", BEST_EFFORT)
        # Serialized results: what this process would do with them is not the detector's cost.
        self._arrived = {"uncertainty": 0, "anomaly_mask": 0}
        for topic in self._arrived:
            self._node.create_subscription(Image, f"/detector/{topic}", partial(self._on_map, topic), OUTPUT, raw=True)
        # The collected times by stage; `round_trip` is from before a frame is sent until both maps are here.
        self.milliseconds: dict[str, list[float]] = {}
        self._cloud: PointCloud2 | None = None
        self.reset()
        for stage in STAGES:
            self._node.create_subscription(
                Float64, f"/detector/debug/{stage}_ms", partial(self._on_time, stage), OUTPUT
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

    def hear_obstacles(self, frames: int) -> int:
        """Calibrate the camera and listen to obstacles; return how many there are after so many frames."""
        info = CameraInfo(height=self._image.height, width=self._image.width)
        width, height = float(info.width), float(info.height)
        info.k = [width / 2, 0.0, width / 2, 0.0, width / 2, height / 2, 0.0, 0.0, 1.0]
        calibration = self._node.create_publisher(CameraInfo, "/camera/camera_info", OUTPUT)
        self._node.create_subscription(PointCloud2, "/detector/obstacle_points", self._on_cloud, OUTPUT)
        end = time.monotonic() + PATIENCE_S
        while not calibration.get_subscription_count() and time.monotonic() < end:
            self._spin(0.1)
        calibration.publish(info)
        self.send(frames, 0.0)
        points = np.frombuffer(bytes(self._cloud.data), POINT) if self._cloud is not None else np.empty(0, POINT)
        return len(np.unique(points["id"]))

    def _on_cloud(self, cloud: PointCloud2) -> None:
        self._cloud = cloud

    def _on_time(self, stage: str, message: Float64) -> None:
        self.milliseconds[stage].append(message.data)

    def _spin(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._executor.spin_once(timeout_sec=0.05)

    def reset(self) -> None:
        """Forget the times so far."""
        self.milliseconds |= {stage: [] for stage in (*STAGES, ROUND_TRIP)}

    def connect(self, process: subprocess.Popen[bytes], deadline_s: float) -> None:
        """Wait until the detector answers a frame."""
        end = time.monotonic() + deadline_s
        while min(self._arrived.values()) == 0:
            if process.poll() is not None or time.monotonic() > end:
                raise Vl4adError("The detector did not start or did not answer; its log above says why.")
            if self._camera.get_subscription_count():
                self._camera.publish(self._image)
            self._spin(0.5)

    def send(self, frames: int, rate: float) -> int:
        """Send frames at a rate in Hz, or 0: as both maps come; return how many of them got no result."""
        before = min(self._arrived.values())
        for index in range(frames):
            stamp: Any = self._node.get_clock().now().to_msg()
            self._image.header.stamp = stamp
            wanted = min(self._arrived.values()) + 1
            began = time.monotonic()
            self._camera.publish(self._image)
            until = began + (1 / rate if rate and index < frames - 1 else PATIENCE_S)
            while (left := until - time.monotonic()) > 0:
                self._executor.spin_once(timeout_sec=left)
                if not rate and min(self._arrived.values()) >= wanted:
                    self.milliseconds[ROUND_TRIP].append((time.monotonic() - began) * 1e3)
                    break
        # The times are sent after the maps.
        self._spin(0.2)
        return max(0, frames - (min(self._arrived.values()) - before))


def main(args: Sequence[str] | None = None) -> int:
    """Run the detector node around the null engine: what it measures is everything else."""
    return run_node(lambda: DetectorNode(open_null), NAME, args)


if __name__ == "__main__":
    sys.exit(main())
