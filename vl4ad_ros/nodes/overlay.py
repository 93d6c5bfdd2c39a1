"""The overlay node: draws a detector's results over the camera's image, for people."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import String

from vl4ad_ros.io.drawing import draw_legend, draw_overlay, draw_text
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.images import BadImageError, message_to_rgb
from vl4ad_ros.io.media import encode_jpeg
from vl4ad_ros.nodes import messages
from vl4ad_ros.nodes.cdr import map_image
from vl4ad_ros.nodes.executor import ThrottledLog, run_node
from vl4ad_ros.nodes.health import Rate
from vl4ad_ros.nodes.markers import obstacle_markers
from vl4ad_ros.nodes.parameters import declare
from vl4ad_ros.nodes.qos import LATCHED, OUTPUT, InputTopic, create_publisher, profile, steady_clock
from vl4ad_ros.runtime.regions import Region
from vl4ad_ros.runtime.settings import OVERLAY_PARAMETERS, check_values

NAME = "overlay"
# What waits for its results at most: two seconds at 30 Hz, less for large images.
KEEP_FRAMES, KEEP_BYTES = 64, 256 << 20
LISTENER_CHECK_S = 0.2
MAX_CAPTION = 200
BOX = (255, 255, 255)
# While a result is drawn, more images may come than one.
IMAGES = profile(ReliabilityPolicy.RELIABLE, depth=4)


class FrameParts:
    """Collects the parts of frames by their stamp; a frame is complete when it has every part."""

    def __init__(self, parts: set[str], keep_frames: int, keep_bytes: int) -> None:
        """Remember at most so many incomplete frames and bytes; the oldest is forgotten first, the newest kept."""
        self._parts = parts
        self._keep_frames = keep_frames
        self._keep_bytes = keep_bytes
        self._frames: dict[Hashable, dict[str, Any]] = {}
        self._sizes: dict[Hashable, int] = {}

    def add(self, key: Hashable, part: str, value: Any, size: int = 0) -> Mapping[str, Any] | None:
        """Add a part of `size` bytes; return its frame's parts when it is complete, and forget it and all before it."""
        frame = self._frames.setdefault(key, {})
        frame[part] = value
        self._sizes[key] = self._sizes.get(key, 0) + size
        if frame.keys() >= self._parts:
            while key in self._frames:
                self._forget_oldest()
            return frame
        while len(self._frames) > 1 and (
            len(self._frames) > self._keep_frames or sum(self._sizes.values()) > self._keep_bytes
        ):
            self._forget_oldest()
        return None

    def _forget_oldest(self) -> None:
        oldest = next(iter(self._frames))
        del self._frames[oldest], self._sizes[oldest]


class OverlayNode(Node):
    """Draws uncertainty, mask outline, regions, prompt set and rates; subscribes only while somebody looks."""

    def __init__(self) -> None:
        """Declare the parameters and the outputs."""
        super().__init__(NAME, automatically_declare_parameters_from_overrides=True)
        self._values = declare(self, OVERLAY_PARAMETERS)
        check_values(self._values)
        self._vision_msgs = messages.find_module("vision_msgs.msg")
        self._log = ThrottledLog(self.get_logger().warning)
        self._raw = create_publisher(self, Image, "~/image", OUTPUT)
        self._jpeg = create_publisher(self, CompressedImage, "~/image/compressed", OUTPUT)
        self._msgs, self._markers = messages.find_module("visualization_msgs.msg"), None
        if self._msgs is not None:
            self._markers = create_publisher(self, self._msgs.MarkerArray, "~/markers", OUTPUT)
        self._inputs: list[InputTopic] = []
        self._obstacles: InputTopic | None = None
        # What is drawn of ~/prompt_set.
        self._prompt_set = ""
        self._threshold: float | None = None
        self._clock_of_listeners = steady_clock()
        self.create_timer(LISTENER_CHECK_S, self._check_listeners, clock=self._clock_of_listeners)

    def _check_listeners(self) -> None:
        listened_to = self._raw.get_subscription_count() + self._jpeg.get_subscription_count() > 0
        if listened_to and not self._inputs:
            try:
                self._subscribe()
            except Vl4adError as error:
                self._unsubscribe()
                self._log.add("subscribe", str(error))
        elif not listened_to and self._inputs:
            self._unsubscribe()
        listened_to = self._markers is not None and self._markers.get_subscription_count() > 0
        if listened_to and self._obstacles is None:
            topic = f"{self._results}/obstacle_points"
            self._obstacles = InputTopic(self, PointCloud2, topic, self._on_obstacles, OUTPUT, choice=self._reliability)
        elif not listened_to and self._obstacles is not None:
            self._obstacles.destroy()
            self._obstacles = None

    @property
    def _results(self) -> str:
        camera, detector = self._values["camera"], self._values["detector"].rstrip("/")
        return f"{detector}/{camera}" if camera else str(detector)

    def _reliability(self) -> str:
        return str(self._values["image_reliability"])

    def _on_obstacles(self, cloud: PointCloud2) -> None:
        assert self._markers is not None
        self._markers.publish(obstacle_markers(self._msgs, cloud))

    def _unsubscribe(self) -> None:
        for topic in self._inputs:
            topic.destroy()
        self._inputs = []

    def _subscribe(self) -> None:
        camera, results = self._values["camera"], self._results
        image = f"{camera}/image" if camera else "image"
        regions_type = String if self._vision_msgs is None else self._vision_msgs.Detection2DArray
        parts: dict[str, tuple[type, str, QoSProfile]] = {
            "uncertainty": (Image, f"{results}/uncertainty", OUTPUT),
            "mask": (Image, f"{results}/anomaly_mask", OUTPUT),
            "image": (Image, image, IMAGES),
        }
        if self._values["regions"]:
            parts["regions"] = (regions_type, f"{results}/regions", OUTPUT)
        if self._values["compressed"]:
            parts["image"] = (CompressedImage, f"{image}/compressed", IMAGES)
        self._frames = FrameParts(set(parts), KEEP_FRAMES, KEEP_BYTES)
        self._rate = Rate()
        for part, (message, topic, qos) in parts.items():
            callback = partial(self._on_part, message, part)
            self._inputs.append(InputTopic(self, message, topic, callback, qos, choice=self._reliability, raw=True))
        topic = f"{self._values['detector'].rstrip('/')}/prompt_set"
        self._inputs.append(InputTopic(self, String, topic, self._on_prompt_set, LATCHED, choice=self._reliability))

    def _on_prompt_set(self, message: String) -> None:
        content = json.loads(message.data)
        threshold = float(content["threshold"])
        text = f"{content['name']} {content['version'][:6]}  {content['scoring']}  threshold {threshold:.2f}"
        if not math.isfinite(threshold):
            raise ValueError(f"the threshold is {threshold}")
        # A message that no detector sent has raised by now, and the last good one stays.
        self._prompt_set, self._threshold = text[:MAX_CAPTION], threshold

    def _on_part(self, message_type: type, part: str, raw: bytes) -> None:
        try:
            message: Any = deserialize_message(raw, message_type)
            if message_type is String:
                content = json.loads(message.data)
                key = (content["stamp"]["sec"], content["stamp"]["nanosec"], content["frame_id"])
            else:
                key = (message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id)
            frame = self._frames.add(key, part, message, len(raw))
            if frame is not None:
                self._draw(frame)
        except BadImageError as error:
            self._log.add(error.cause, str(error))
        except Exception as error:  # A hostile camera shall not end the picture for the next good frame.
            self._log.add("drawing", f"A frame cannot be drawn ({error!r}).")

    def _draw(self, frame: Mapping[str, Any]) -> None:
        self._rate.tick()
        image = message_to_rgb(frame["image"])
        uncertainty, mask = _pixels(frame["uncertainty"], np.float32), _pixels(frame["mask"], np.uint8)
        limit = self._values["max_width"]
        if limit and image.shape[1] > limit:
            size = (limit, max(1, round(image.shape[0] * limit / image.shape[1])))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        header = frame["uncertainty"].header
        drawn = draw_overlay(image, uncertainty, mask, self._caption(messages.stamp_ns(header)))
        draw_legend(drawn, self._threshold)
        if "regions" in frame:
            _draw_regions(drawn, _regions(frame["regions"]), mask.shape)
        if self._raw.get_subscription_count():
            self._raw.publish(map_image(header, drawn))
        if self._jpeg.get_subscription_count():
            data = encode_jpeg(drawn, self._values["jpeg_quality"])
            self._jpeg.publish(CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=data))

    def _caption(self, stamp_ns: int) -> list[str]:
        age_ms = (self.get_clock().now().nanoseconds - stamp_ns) / 1e6
        # A bag played without simulated time has ages of years; they say nothing.
        age = f"  age {age_ms:.0f} ms" if 0 <= age_ms < 60_000 else ""
        return [*filter(None, [self._prompt_set]), f"{self._rate.value():.1f} results/s{age}"]


def _regions(message: Any) -> list[Region]:
    if isinstance(message, String):
        return [Region(**region) for region in json.loads(message.data)["regions"]]
    return messages.regions_of_detections(message)


def _pixels(message: Image, dtype: type[np.generic]) -> NDArray[Any]:
    return np.frombuffer(message.data, dtype=dtype).reshape(message.height, message.width)


def _draw_regions(drawn: NDArray[np.uint8], regions: Sequence[Region], size: tuple[int, ...]) -> None:
    """Draw boxes given in pixels of a map of `size` (rows, columns)."""
    scale_y, scale_x = drawn.shape[0] / size[0], drawn.shape[1] / size[1]
    # Around the component, so that its outline stays free.
    margin = max(3, drawn.shape[0] // 180)
    for region in reversed(regions):  # The largest one last, over the others.
        left, top = round(region.x * scale_x) - margin, round(region.y * scale_y) - margin
        right = round((region.x + region.width) * scale_x) - 1 + margin
        bottom = round((region.y + region.height) * scale_y) - 1 + margin
        cv2.rectangle(drawn, (left, top), (right, bottom), BOX, 1)
        track = f"#{region.id} " if region.id else ""
        draw_text(drawn, f"{track}{region.mean:.2f}", (left + 3, top - 4), 0.4)


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; the entry point `overlay`."""
    return run_node(OverlayNode, NAME, args, OVERLAY_PARAMETERS)


if __name__ == "__main__":
    sys.exit(main())
