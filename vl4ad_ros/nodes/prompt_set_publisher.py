"""The latched topics with the settings in force: ~/prompt_set, and with vision_msgs ~/label_info and ~/vision_info."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rclpy.node import Node
from std_msgs.msg import Header, String

from vl4ad_ros.nodes import messages
from vl4ad_ros.nodes.qos import LATCHED, create_publisher
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.frames import FrameState

# Swaps that are published besides the one in force.
HISTORY = 16


class SwapHistory:
    """The last swaps in their order, and the stamp of each one's first result on each camera.

    A frame that was in work during a swap still counts for the one that it was made with.
    """

    def __init__(self) -> None:
        self._entries: dict[int, dict[str, Any]] = {}

    def begin(self, swap: int, name: str, version: str) -> None:
        """Note a swap by its number, and the name and version of its prompt set; repeated, it changes nothing."""
        self._entries.setdefault(swap, {"swap": swap, "name": name, "version": version, "since": {}})
        while len(self._entries) > HISTORY + 1:
            del self._entries[min(self._entries)]

    def first_result(self, swap: int, camera: str, stamp: dict[str, int]) -> None:
        """Note the stamp of a swap's first result on a camera."""
        if swap in self._entries:
            self._entries[swap]["since"][camera] = stamp

    def newest_and_previous(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the newest swap, and those before it, the oldest first."""
        entries = [self._entries[swap] for swap in sorted(self._entries)]
        return entries[-1], entries[:-1]


class PromptSetPublisher:
    """Publishes each swap when it is set, and again before its first result on each camera."""

    def __init__(
        self, node: Node, detector: Detector, history: SwapHistory, newest: Callable[[], FrameState], vision_msgs: Any
    ) -> None:
        """Create the topics; `newest` returns the state in force, `vision_msgs` is the module of that name or None."""
        self._node = node
        self._detector = detector
        self._history = history
        self._newest = newest
        self._vision_msgs = vision_msgs
        # One thread sets, another one works: what is published last must be what is in force.
        self._lock = threading.Lock()
        types = {"prompt_set": String}
        if vision_msgs is not None:
            types |= {"label_info": vision_msgs.LabelInfo, "vision_info": vision_msgs.VisionInfo}
        self._publishers = {name: create_publisher(node, kind, f"~/{name}", LATCHED) for name, kind in types.items()}

    def destroy(self) -> None:
        """Remove the topics."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)

    def publish(self) -> None:
        """Publish what is in force."""
        with self._lock:
            self._publish_newest()

    def publish_first_result(self, made_with: FrameState, camera: str, header: Header) -> None:
        """Publish the stamp of a state's first result on a camera; by now, a newer state may be in force."""
        with self._lock:
            self._begin(made_with)
            stamp = messages.stamp_dict(header)
            self._history.first_result(made_with.version, camera, stamp)
            self._node.get_logger().info(
                f"Swap {made_with.version} ('{made_with.prompts.prompt_set.name}') holds on camera {camera or 'image'} "
                f"since stamp {stamp['sec']}.{stamp['nanosec']:09d}"
            )
            self._publish_newest()

    def _begin(self, state: FrameState) -> None:
        prompt_set = state.prompts.prompt_set
        self._history.begin(state.version, prompt_set.name, prompt_set.version)

    def _publish_newest(self) -> None:
        state = self._newest()
        self._begin(state)
        prompts = state.prompts
        entry, previous = self._history.newest_and_previous()
        content = prompts.prompt_set.summary() | entry
        content |= {
            "scoring": prompts.scoring,
            "method": state.method,
            "random_word": state.random_word,
            "temperature": prompts.temperature,
            "threshold": state.threshold,
            "threshold_from": state.threshold_from,
            "output_size": state.output.output_size,
            "min_region_area": state.output.min_region_area,
            "bundle": self._detector.bundle.card.name,
            "engine": asdict(self._detector.engine.info),
            "previous": previous,
        }
        self._publishers["prompt_set"].publish(messages.text(content))
        if self._vision_msgs is not None:
            header = Header(stamp=self._node.get_clock().now().to_msg())
            self._publishers["label_info"].publish(
                messages.label_info(self._vision_msgs, header, prompts.prompt_set, state.threshold)
            )
            topic = f"{self._node.get_fully_qualified_name()}/prompt_set"
            self._publishers["vision_info"].publish(
                messages.vision_info(self._vision_msgs, header, prompts.scoring, topic, state.version)
            )
