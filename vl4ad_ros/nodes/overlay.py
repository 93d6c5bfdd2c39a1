"""The overlay node: draws a detector's results over the camera's image, for people."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from vl4ad_ros.io.drawing import draw_legend, draw_overlay, draw_text
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.images import BadImageError, decode, decode_compressed
from vl4ad_ros.nodes import messages
from vl4ad_ros.nodes.complaints import Complaints
from vl4ad_ros.nodes.declare import declare, read
from vl4ad_ros.nodes.input_topic import InputTopic
from vl4ad_ros.nodes.pairing import Pairing
from vl4ad_ros.nodes.qos import LATCHED, OUTPUT, create_publisher, profile
from vl4ad_ros.nodes.spin import run_node
from vl4ad_ros.nodes.stats import Rate
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


class OverlayNode(Node):
    """Draws uncertainty, mask outline, regions, prompt set and rates; subscribes only while somebody looks."""

    def __init__(self) -> None:
        """Declare the parameters and the outputs.

        Raises:
            Vl4adError: If a parameter cannot be used.
        """
        super().__init__(NAME)
        declare(self, OVERLAY_PARAMETERS)
        self._values = read(self, OVERLAY_PARAMETERS)
        check_values(self._values)
        self._vision_msgs = messages.find_vision_msgs()
        self._complaints = Complaints(self.get_logger().warning)
        self._raw = create_publisher(self, Image, "~/image", OUTPUT)
        self._jpeg = create_publisher(self, CompressedImage, "~/image/compressed", OUTPUT)
        self._inputs: list[InputTopic] = []
        # What is drawn of ~/prompt_set.
        self._prompt_set = ""
        self._threshold: float | None = None
        self._rate = Rate()
        self._pairing = self._new_pairing()
        # On the steady clock: without /clock, simulated time would never look for listeners.
        self._clock_of_listeners = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(LISTENER_CHECK_S, self._check_listeners, clock=self._clock_of_listeners)

    def _new_pairing(self) -> Pairing:
        parts = {"image", "uncertainty", "mask", "regions"}
        return Pairing(frozenset(parts if self._values["regions"] else parts - {"regions"}), KEEP_FRAMES, KEEP_BYTES)

    def _check_listeners(self) -> None:
        listened_to = self._raw.get_subscription_count() + self._jpeg.get_subscription_count() > 0
        if listened_to and not self._inputs:
            try:
                self._subscribe()
            except Vl4adError as error:
                self._unsubscribe()
                self._complaints.add("subscribe", str(error))
        elif not listened_to and self._inputs:
            self._unsubscribe()

    def _unsubscribe(self) -> None:
        for topic in self._inputs:
            topic.destroy()
        self._inputs = []

    def _subscribe(self) -> None:
        camera, detector = self._values["camera"], self._values["detector"].rstrip("/")
        image = f"{camera}/image" if camera else "image"
        results = f"{detector}/{camera}" if camera else detector
        regions_type = String if self._vision_msgs is None else self._vision_msgs.Detection2DArray
        self._pairing = self._new_pairing()
        self._rate = Rate()

        def hear(message: type, topic: str, callback: Callable[[Any], object], qos: QoSProfile, raw: bool) -> None:
            self._inputs.append(InputTopic(self, message, topic, callback, qos, choice=self._reliability, raw=raw))

        def hear_part(message: type, topic: str, part: str, qos: QoSProfile = OUTPUT) -> None:
            hear(message, topic, partial(self._on_part, message, part), qos, True)

        hear_part(Image, f"{results}/uncertainty", "uncertainty")
        hear_part(Image, f"{results}/anomaly_mask", "mask")
        if self._values["regions"]:
            hear_part(regions_type, f"{results}/regions", "regions")
        if self._values["compressed"]:
            hear_part(CompressedImage, f"{image}/compressed", "image", IMAGES)
        else:
            hear_part(Image, image, "image", IMAGES)
        hear(String, f"{detector}/prompt_set", self._on_prompt_set, LATCHED, False)

    def _reliability(self) -> str:
        return str(self._values["image_reliability"])

    def _on_prompt_set(self, message: String) -> None:
        told = json.loads(message.data)
        threshold = float(told["threshold"])
        text = f"{told['name']} {told['version'][:6]}  {told['scoring']}  threshold {threshold:.2f}"
        if not math.isfinite(threshold):
            raise ValueError(f"the threshold is {threshold}")
        # A message that no detector sent has raised by now, and the last good one stays.
        self._prompt_set, self._threshold = text[:MAX_CAPTION], threshold

    def _on_part(self, message_type: type, part: str, raw: bytes) -> None:
        try:
            message: Any = deserialize_message(raw, message_type)
            if part == "regions" and self._vision_msgs is None:
                content = json.loads(message.data)
                key = (content["stamp"]["sec"], content["stamp"]["nanosec"], content["frame_id"])
            else:
                key = (message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id)
            frame = self._pairing.add(key, part, message, len(raw))
            if frame is not None:
                self._draw(frame)
        except BadImageError as error:
            self._complaints.add(error.cause, str(error))
        except Exception as error:  # A hostile camera shall not end the picture for the next good frame.
            self._complaints.add("drawing", f"A frame cannot be drawn ({error!r}).")

    def _draw(self, frame: Mapping[str, Any]) -> None:
        self._rate.tick()
        picture = frame["image"]
        if isinstance(picture, CompressedImage):
            image = decode_compressed(picture.format, picture.data)
        else:
            image = decode(
                picture.encoding, picture.height, picture.width, picture.step, bool(picture.is_bigendian), picture.data
            )
        uncertainty, mask = _pixels(frame["uncertainty"], np.float32), _pixels(frame["mask"], np.uint8)
        limit = self._values["max_width"]
        if limit and image.shape[1] > limit:
            size = (limit, max(1, round(image.shape[0] * limit / image.shape[1])))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        drawn = draw_overlay(image, uncertainty, mask, self._caption(frame["uncertainty"]))
        draw_legend(drawn, self._threshold)
        if "regions" in frame:
            _draw_regions(drawn, self._regions(frame["regions"]), mask.shape)
        header = frame["uncertainty"].header
        if self._raw.get_subscription_count():
            self._raw.publish(messages.map_image(header, drawn))
        if self._jpeg.get_subscription_count():
            quality = [cv2.IMWRITE_JPEG_QUALITY, self._values["jpeg_quality"]]
            _, encoded = cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), quality)
            compressed = CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=encoded.tobytes())
            self._jpeg.publish(compressed)

    def _caption(self, result: Image) -> list[str]:
        stamp_ns = result.header.stamp.sec * 1_000_000_000 + result.header.stamp.nanosec
        age_ms = (self.get_clock().now().nanoseconds - stamp_ns) / 1e6
        # A bag played without simulated time has ages of years; they tell nothing.
        age = f"  age {age_ms:.0f} ms" if 0 <= age_ms < 60_000 else ""
        return [*filter(None, [self._prompt_set]), f"{self._rate.value():.1f} results/s{age}"]

    def _regions(self, message: Any) -> list[Region]:
        if self._vision_msgs is None:
            return [Region(**region) for region in json.loads(message.data)["regions"]]
        regions = []
        for detection in message.detections:
            box, scores = detection.bbox, [result.hypothesis.score for result in detection.results]
            width, height = round(box.size_x), round(box.size_y)
            corner = round(box.center.position.x - width / 2), round(box.center.position.y - height / 2)
            regions.append(Region(*corner, width, height, round(scores[2] * width * height), scores[0], scores[1]))
        return regions


def _pixels(message: Image, dtype: type[np.generic]) -> NDArray[Any]:
    return np.frombuffer(message.data, dtype=dtype).reshape(message.height, message.width)


def _draw_regions(drawn: NDArray[np.uint8], regions: Sequence[Region], size: tuple[int, ...]) -> None:
    """Draw boxes given in pixels of a map of `size` (rows, columns)."""
    scale_y, scale_x = drawn.shape[0] / size[0], drawn.shape[1] / size[1]
    for region in reversed(regions):  # The largest one last, over the others.
        first = round(region.x * scale_x), round(region.y * scale_y)
        last = round((region.x + region.width) * scale_x) - 1, round((region.y + region.height) * scale_y) - 1
        # Around the component, so that its outline stays free.
        margin = max(3, drawn.shape[0] // 180)
        corner = first[0] - margin, first[1] - margin
        cv2.rectangle(drawn, corner, (last[0] + margin, last[1] + margin), BOX, 1)
        draw_text(drawn, f"{region.mean:.2f}", (corner[0] + 3, corner[1] - 4), 0.4)


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; the entry point `overlay`."""
    return run_node(OverlayNode, NAME, args)


if __name__ == "__main__":
    sys.exit(main())
