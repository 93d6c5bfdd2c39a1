"""One camera of the detector: its topics, its statistics, and what happened to its frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Float64, Header, String

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.images import camera_info_beside
from vl4ad_ros.nodes import health, messages
from vl4ad_ros.nodes.executor import ThrottledLog
from vl4ad_ros.nodes.health import STAGES, CameraStats
from vl4ad_ros.nodes.mounting import Mounting
from vl4ad_ros.nodes.obstacles import ObstaclePublisher
from vl4ad_ros.nodes.qos import OUTPUT, InputTopic, create_publisher
from vl4ad_ros.runtime.frames import FrameState, Result, RoiMask, Wanted
from vl4ad_ros.runtime.tracks import Tracker

# Best-effort frames may overtake each other a little; a bag that starts over goes further back.
JUMP_BACK_NS = 100_000_000
# Clocks of two machines differ a little; a stamp further ahead than this comes from another time.
AHEAD_MS = 100.0


class Camera:
    """Topics and bookkeeping of one camera."""

    def __init__(
        self,
        node: LifecycleNode,
        name: str,
        roi: RoiMask | None,
        vision_msgs: Any | None,
        mounting: Mounting,
        uncertainty_format: str,
    ) -> None:
        self._node = node
        self.name = name
        self.roi = roi  # its region of interest, or None
        self.stats = CameraStats()  # what happened to its frames
        self.swap = 0  # version of the state that its last result was made with; 0 where that is to be published anew
        self._vision_msgs, self._format = vision_msgs, uncertainty_format
        self._log = ThrottledLog(node.get_logger().warning)
        self._info: CameraInfo | None = None
        self._last_stamp_ns = 0
        self._due = 0.0
        self._inputs: list[InputTopic] = []
        prefix = f"~/{name}/" if name else "~/"

        def publisher(message: type, topic: str) -> Any:
            return create_publisher(node, message, prefix + topic, OUTPUT)

        self._uncertainty = publisher(Image, "uncertainty")
        self._compressed = publisher(CompressedImage, "uncertainty/compressed")
        self._mask = publisher(Image, "anomaly_mask")
        self._camera_info = publisher(CameraInfo, "camera_info")
        self._regions = publisher(String if vision_msgs is None else vision_msgs.Detection2DArray, "regions")
        self._tracker = Tracker()
        self._obstacles = ObstaclePublisher(node, prefix, vision_msgs, mounting)
        self._debug = {stage: publisher(Float64, f"debug/{stage}_ms") for stage in STAGES}
        # What goes along with any result.
        self._others = (self._camera_info, self._compressed, *self._debug.values())

    def subscribe(self, compressed: bool, reliability: Callable[[], str], on_image: Callable[[bytes], None]) -> None:
        """Begin to receive; images come as serialized bytes, so that a frame that is dropped costs nothing more."""
        prefix = f"{self.name}/" if self.name else ""
        message, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self.stats = CameraStats()
        images = InputTopic(
            self._node, message, prefix + topic, on_image, OUTPUT, choice=reliability, raw=True, on_lost=self._on_lost
        )
        self._inputs = [images]
        # As remapped, else beside the image.
        info, resolve = prefix + "camera_info", self._node.resolve_topic_name
        if resolve(info) == resolve(info, only_expand=True):
            info = camera_info_beside(images.topic)
        self._inputs.append(InputTopic(self._node, CameraInfo, info, self._on_info, OUTPUT, choice=reliability))

    @property
    def topics(self) -> list[str]:
        """The topics that are heard: the images', then the camera_info's."""
        return [topic.topic for topic in self._inputs]

    def unsubscribe(self) -> None:
        """Stop receiving."""
        for topic in self._inputs:
            topic.destroy()
        self._inputs = []
        self._info = None

    def destroy(self) -> None:
        """Remove the topics."""
        self.unsubscribe()
        for publisher in (self._uncertainty, self._mask, self._regions, *self._others):
            self._node.destroy_publisher(publisher)
        self._obstacles.destroy()

    def _on_lost(self, number: int) -> None:
        self.stats.count(health.LOST, number)

    def _on_info(self, info: CameraInfo) -> None:
        self._info = info

    def wanted(self) -> Wanted:
        """Return which outputs somebody listens to."""
        maps = (self._uncertainty, self._mask, self._regions)
        uncertainty, mask, regions = (publisher.get_subscription_count() > 0 for publisher in maps)
        regions = regions or self._obstacles.wanted()
        # These matter only where nothing else is wanted: eleven questions less for each frame.
        others = not (uncertainty or mask or regions) and any(
            publisher.get_subscription_count() > 0 for publisher in self._others
        )
        return Wanted(uncertainty, mask, regions, others)

    def is_too_soon(self, max_rate: float) -> bool:
        """Return whether a frame that came now exceeds the rate in Hz; if not, count it as taken."""
        now = time.monotonic()
        if max_rate <= 0:
            self._due = now
            return False
        # The rate may have been raised since: nothing is due later than one period from now.
        self._due = min(self._due, now + 1 / max_rate)
        # A tenth of a period early is on time: a 30 Hz camera under a limit of 30 Hz keeps all its frames.
        tolerance = 0.1 / max_rate
        if now < self._due - tolerance:
            return True
        self._due = max(self._due, now - tolerance) + 1 / max_rate
        return False

    def count_bad(self, cause: str, sentence: str) -> None:
        """Count and log an unusable frame."""
        self.stats.count(f"bad: {cause}")
        self.warn(cause, sentence)

    def warn(self, cause: str, sentence: str) -> None:
        """Log something about this camera, once in a while."""
        self._log.add(cause, f"Camera {self.name or 'image'}: {sentence}")

    def check_stamp(self, header: Header) -> None:
        """Notice zero stamps and jumps back in time; the frame is processed all the same."""
        stamp = messages.stamp_ns(header)
        if stamp == 0:
            self.stats.count("zero stamp")
            self.warn("zero stamp", "an image has no stamp.")
            return
        if stamp < self._last_stamp_ns - JUMP_BACK_NS:
            back_s = (self._last_stamp_ns - stamp) / 1e9
            self.stats.count("time jumped back")
            self.stats.forget_age()
            self.swap = 0  # Stamps begin anew: publish again since when the prompt set holds.
            self.warn("time", f"time jumped back by {back_s:.1f} s.")
        self._last_stamp_ns = stamp

    def publish(
        self,
        header: Header,
        result: Result,
        image_size: tuple[int, int],
        wanted: Wanted,
        serialized: Mapping[str, bytes],
        state: FrameState,
    ) -> dict[str, float]:
        """Publish the outputs of a frame that somebody listened to when it was begun, with the frame's own header.

        `serialized` has the maps that are wanted, as messages: `uncertainty`, `mask`. Returns stages of it in
        milliseconds: `obstacles`, where somebody listens to regions or obstacles.
        """
        if wanted.uncertainty:
            self._uncertainty.publish(serialized["uncertainty"])
        if wanted.mask:
            self._mask.publish(serialized["mask"])
        if self._compressed.get_subscription_count():
            self._compressed.publish(messages.compressed_map(header, result.uncertainty, self._format))
        obstacles = result.regions is not None and self._obstacles.wanted()
        size, info = result.uncertainty.shape, None
        listened_to = self._camera_info.get_subscription_count() > 0
        if self._info is not None and (obstacles or listened_to):
            info = self._rescaled_info(self._info, header, image_size, size)
            if listened_to and isinstance(info, CameraInfo):
                self._camera_info.publish(info)
        if result.regions is None:
            return {}
        began = time.monotonic()
        self._tracker.settings = state.tracks
        regions = self._tracker.update(result.regions, messages.stamp_ns(header) / 1e9, state.threshold)
        if obstacles:
            self._obstacles.publish(header, regions, info, state.ground)
        milliseconds = (time.monotonic() - began) * 1e3
        if self._regions.get_subscription_count():
            if self._vision_msgs is None:
                self._regions.publish(messages.regions_text(header, size, regions))
            else:
                self._regions.publish(messages.regions_detections(self._vision_msgs, header, regions))
        return {"obstacles": milliseconds}

    def _rescaled_info(
        self, info: CameraInfo, header: Header, image_size: tuple[int, int], size: tuple[int, int]
    ) -> CameraInfo | Vl4adError:
        """Return the camera_info of the map, or why there is none."""
        try:
            return messages.rescaled_camera_info(info, header, image_size, size)
        except Vl4adError as error:
            self.stats.count("camera_info does not fit")
            self.warn("camera_info", str(error))
            return error

    def finish(self, header: Header, milliseconds: dict[str, float]) -> None:
        """Book a published frame: statistics and the debug topics."""
        stamp, now = messages.stamp_ns(header), self._node.get_clock().now().nanoseconds
        if stamp and not now:
            self.stats.count("no /clock")
            self.warn("no /clock", "use_sim_time is set, but nobody publishes /clock: ages are unknown.")
        elif stamp:
            milliseconds["age"] = (now - stamp) / 1e6
            if milliseconds["age"] < -AHEAD_MS:
                self.stats.count("stamp ahead of the clock")
        self.stats.published(milliseconds)
        for stage, value in milliseconds.items():
            if self._debug[stage].get_subscription_count():
                self._debug[stage].publish(Float64(data=value))

    def diagnose(self, limits: dict[str, Any], hardware_id: str) -> DiagnosticStatus:
        """Return the camera's diagnostic status."""
        summary, images = self.stats.summary(), self._inputs[0]
        reliability = images.reliability.name.lower()
        if lost := health.lost_sentence(summary, reliability, limits["image_reliability"]):
            self.warn(health.LOST, lost)
        # Of a silent camera: none is a wrong name, some are QoS or a stopped driver.
        source = f"{images.topic} has {self._node.count_publishers(images.topic) or 'no'} publishers"
        level, sentence = health.judge(summary, limits, self.wanted().anything, source)
        values: dict[str, object] = {"rate in (Hz)": summary.rate_in, "rate out (Hz)": summary.rate_out}
        values["image reliability"] = reliability
        if self._obstacles.problem:
            values["obstacles"] = self._obstacles.problem
        if self._obstacles.source:
            values["ground from"] = self._obstacles.source
        values |= dict(summary.totals)
        for stage in summary.median_ms:
            values[f"{stage} median (ms)"] = summary.median_ms[stage]
            values[f"{stage} p95 (ms)"] = summary.p95_ms[stage]
        name = f"{self._node.get_fully_qualified_name().lstrip('/')}: camera {self.name or 'image'}"
        return messages.status(level, name, sentence, hardware_id, values)
