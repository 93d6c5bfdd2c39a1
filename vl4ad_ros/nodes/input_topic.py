"""A subscription that is reliable where the topic's publishers are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from vl4ad_ros.nodes.qos import create_subscription, profile

CHECK_PERIOD_S = 0.2
AUTO = "auto"


class InputTopic:
    """A topic of another node, heard reliably where each of its publishers offers that, else with best effort.

    A reliable subscription hears no best-effort publisher, and a best-effort one loses whole images where they do not
    fit into the publisher's shared memory. The publishers are looked at again and again, and the subscription is made
    anew when the answer changes. The parameter `qos_overrides.TOPIC.subscription.reliability` ends that, as does a
    choice other than `auto`.

    Attributes:
        topic: The full name.
        reliability: What is in force.
    """

    def __init__(
        self,
        node: Node,
        message: type,
        topic: str,
        callback: Callable[[Any], object],
        qos: QoSProfile,
        *,
        choice: Callable[[], str] = lambda: AUTO,
        raw: bool = False,
        on_lost: Callable[[int], object] | None = None,
    ) -> None:
        """Subscribe.

        Args:
            node: Whose subscription it is.
            message: The message type.
            topic: The topic, to be remapped.
            callback: Takes the messages; must be quick, as it runs on the executor's thread.
            qos: Its quality of service but for the reliability.
            choice: Returns `auto`, `reliable` or `best_effort`; asked at each look.
            raw: Whether the callback takes serialized bytes.
            on_lost: Takes how many messages were lost in transport, where the middleware tells.

        Raises:
            Vl4adError: If a parameter of its quality of service cannot be used.
        """
        self._node, self._message, self._callback = node, message, callback
        self._choice, self._raw, self._on_lost = choice, raw, on_lost
        # What a parameter leaves at this is decided here.
        self._profile = profile(ReliabilityPolicy.SYSTEM_DEFAULT, qos.depth, qos.durability)
        self._name = topic
        self._fixed = False
        self.topic = node.resolve_topic_name(topic)
        # Where nobody publishes yet: a reliable driver that comes is then heard from its first image on.
        self.reliability = ReliabilityPolicy.RELIABLE
        self._subscription = self._subscribe()
        # On the steady clock: without /clock, simulated time would never look.
        self._clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(CHECK_PERIOD_S, self._check, clock=self._clock)

    def destroy(self) -> None:
        """Stop hearing."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._subscription)

    def _answer(self) -> ReliabilityPolicy:
        choice = self._choice()
        if choice != AUTO:
            return ReliabilityPolicy[choice.upper()]
        offers = {info.qos_profile.reliability for info in self._node.get_publishers_info_by_topic(self.topic)}
        if not offers:  # Whoever comes back is likely to be as before.
            return self.reliability
        return ReliabilityPolicy.RELIABLE if offers == {ReliabilityPolicy.RELIABLE} else ReliabilityPolicy.BEST_EFFORT

    def _check(self) -> None:
        if not self._fixed and self._answer() != self.reliability:
            # The old one first: two of them would hear a message twice.
            self._node.destroy_subscription(self._subscription)
            self._subscription = self._subscribe()

    def _settle(self, overridden: QoSProfile) -> None:
        self._fixed = overridden.reliability != ReliabilityPolicy.SYSTEM_DEFAULT
        if not self._fixed:
            overridden.reliability = self._answer()
        self.reliability = overridden.reliability

    def _on_mismatch(self, event: object) -> None:
        """A publisher was found that the subscription does not match."""
        del event
        if not self._fixed and self._choice() == AUTO:
            self._check()
        else:
            self._node.get_logger().warning(
                f"{self.topic}: a publisher offers best effort only, and reliable is asked for: it is not heard."
            )

    def _subscribe(self) -> Any:
        return create_subscription(
            self._node,
            self._message,
            self._name,
            self._callback,
            self._profile,
            raw=self._raw,
            settle=self._settle,
            on_mismatch=self._on_mismatch,
            on_lost=self._on_lost,
        )
