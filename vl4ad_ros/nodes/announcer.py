"""The latched topics that tell what is in force: ~/prompt_set, and with vision_msgs ~/label_info and ~/vision_info."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from std_msgs.msg import Header, String

from vl4ad_ros.nodes import messages
from vl4ad_ros.nodes.qos import LATCHED, create_publisher
from vl4ad_ros.nodes.swaps import Swaps
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.frames import FrameState


class Announcer:
    """Tells of each swap when it is set, and again before its first result on each camera."""

    def __init__(
        self, node: Node, detector: Detector, swaps: Swaps, newest: Callable[[], FrameState], vision_msgs: Any | None
    ) -> None:
        """Announce the topics.

        Args:
            node: Whose topics they are.
            detector: The loaded detector.
            swaps: What was in force before; goes on with what this object tells.
            newest: Returns the state in force.
            vision_msgs: The module of that name, or None.
        """
        self._node = node
        self._detector = detector
        self._swaps = swaps
        self._newest = newest
        self._vision_msgs = vision_msgs
        # One thread sets, another one works: what is told last must be what is in force.
        self._telling = threading.Lock()
        self._prompt_set = create_publisher(node, String, "~/prompt_set", LATCHED)
        self._publishers: list[Any] = [self._prompt_set]
        if vision_msgs is not None:
            self._label_info = create_publisher(node, vision_msgs.LabelInfo, "~/label_info", LATCHED)
            self._vision_info = create_publisher(node, vision_msgs.VisionInfo, "~/vision_info", LATCHED)
            self._publishers += [self._label_info, self._vision_info]

    def destroy(self) -> None:
        """Remove the topics."""
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)

    def tell(self) -> None:
        """Tell what is in force."""
        with self._telling:
            self._publish(self._begin(self._newest()))

    def tell_first_result(self, made_with: FrameState, camera: str, header: Header) -> None:
        """Tell that a state's first result on a camera has this stamp; by now, a newer state may be in force."""
        with self._telling:
            self._begin(made_with)
            self._swaps.first_result(made_with.version, camera, messages.stamp_dict(header))
            self._publish(self._begin(self._newest()))

    def _begin(self, state: FrameState) -> FrameState:
        prompt_set = state.prompts.prompt_set
        self._swaps.begin(state.version, prompt_set.name, prompt_set.version)
        return state

    def _publish(self, state: FrameState) -> None:
        prompts = state.prompts
        entry, previous = self._swaps.told()
        content = prompts.prompt_set.summary() | entry
        content |= {
            "scoring": prompts.scoring,
            "method": state.method,
            "random_word": state.random_word,
            "temperature": prompts.temperature,
            "threshold": state.threshold,
            "output_size": state.output_size,
            "min_region_area": state.min_region_area,
            "bundle": self._detector.bundle.card.name,
            "engine": self._detector.engine.info.as_dict(),
            "previous": previous,
        }
        self._prompt_set.publish(messages.text(content))
        if self._vision_msgs is not None:
            header = Header(stamp=self._node.get_clock().now().to_msg())
            topic = f"{self._node.get_fully_qualified_name()}/prompt_set"
            self._label_info.publish(
                messages.label_info(self._vision_msgs, header, prompts.prompt_set, state.threshold)
            )
            self._vision_info.publish(
                messages.vision_info(self._vision_msgs, header, prompts.scoring, topic, state.version)
            )
