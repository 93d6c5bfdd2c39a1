"""Quality of service: profiles, and publishers and subscriptions whose profile parameters can change.

Everything made here has the parameters `qos_overrides.TOPIC.publisher.*` or `.subscription.*` (history, depth,
reliability), to be given in a parameter file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from vl4ad_ros.io.errors import Vl4adError

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # The module's name in Humble.
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

CHECK_PERIOD_S = 0.2
AUTO = "auto"


def profile(
    reliability: ReliabilityPolicy, depth: int = 1, durability: DurabilityPolicy = DurabilityPolicy.VOLATILE
) -> QoSProfile:
    """Return a profile that keeps the newest `depth` messages."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability)


BEST_EFFORT = profile(ReliabilityPolicy.BEST_EFFORT)
# Depth 1 keeps the newest result only: who is slow misses older ones, and gets no old ones.
OUTPUT = profile(ReliabilityPolicy.RELIABLE)
QUEUE = profile(ReliabilityPolicy.RELIABLE, depth=10)
LATCHED = profile(ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def create_publisher(node: Node, message: type, topic: str, qos: QoSProfile) -> Any:
    """Create a publisher with the parameters `qos_overrides.TOPIC.publisher.*`."""
    options = QoSOverridingOptions.with_default_policies()
    with _named_errors(node, topic):
        return node.create_publisher(message, topic, copy(qos), qos_overriding_options=options)


def steady_clock() -> Clock:
    """Return a clock for a node's own periods: simulated time stands still without /clock, or when it is paused."""
    return Clock(clock_type=ClockType.STEADY_TIME)


class InputTopic:
    """A subscription that is reliable where each of the topic's publishers offers that, else best effort.

    A reliable subscription hears no best-effort publisher, and a best-effort one loses whole images where they do not
    fit into the publisher's shared memory. The publishers are checked every `CHECK_PERIOD_S`, and the subscription is
    made anew when the answer changes. The parameter `qos_overrides.TOPIC.subscription.reliability` ends that, as does a
    choice other than `auto`.
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
        """Subscribe; `callback` must be quick, as it runs on the executor's thread, and takes bytes if `raw`.

        `choice` returns `auto`, `reliable` or `best_effort` at each check, `on_lost` takes how many messages were lost
        in transport, where the middleware counts them.
        """
        self._node, self._message, self._callback = node, message, callback
        self._choice, self._raw, self._on_lost = choice, raw, on_lost
        # What a parameter leaves at this is decided here.
        self._profile = profile(ReliabilityPolicy.SYSTEM_DEFAULT, qos.depth, qos.durability)
        self._name = topic
        self._fixed = False
        self.topic = node.resolve_topic_name(topic)  # the full name
        # Where nobody publishes yet: a reliable driver that comes is then heard from its first image on.
        self.reliability = ReliabilityPolicy.RELIABLE
        self._subscription = self._subscribe()
        self._clock = steady_clock()
        self._timer = node.create_timer(CHECK_PERIOD_S, self._check, clock=self._clock)

    def destroy(self) -> None:
        """Unsubscribe."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._subscription)

    def _offered(self) -> ReliabilityPolicy:
        choice = self._choice()
        if choice != AUTO:
            return ReliabilityPolicy[choice.upper()]
        offers = {info.qos_profile.reliability for info in self._node.get_publishers_info_by_topic(self.topic)}
        if not offers:  # Whoever comes back is likely to be as before.
            return self.reliability
        return ReliabilityPolicy.RELIABLE if offers == {ReliabilityPolicy.RELIABLE} else ReliabilityPolicy.BEST_EFFORT

    def _check(self) -> None:
        if not self._fixed and self._offered() != self.reliability:
            # The old one first: two of them would hear a message twice.
            self._node.destroy_subscription(self._subscription)
            self._subscription = self._subscribe()

    def _settle(self, overridden: QoSProfile) -> SetParametersResult:
        self._fixed = overridden.reliability != ReliabilityPolicy.SYSTEM_DEFAULT
        if not self._fixed:
            overridden.reliability = self._offered()
        self.reliability = overridden.reliability
        return SetParametersResult(successful=True)

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
        def create(message_lost: Callable[[Any], object] | None) -> Any:
            return self._node.create_subscription(
                self._message,
                self._name,
                self._callback,
                copy(self._profile),  # The parameters are written into it.
                raw=self._raw,
                event_callbacks=SubscriptionEventCallbacks(
                    incompatible_qos=self._on_mismatch, message_lost=message_lost
                ),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(callback=self._settle),
            )

        on_lost = self._on_lost
        with _named_errors(self._node, self._name):
            try:
                return create(None if on_lost is None else lambda lost: on_lost(lost.total_count_change))
            except UnsupportedEventTypeError:
                return create(None)


@contextmanager
def _named_errors(node: Node, topic: str) -> Iterator[None]:
    """Name the topic whose profile cannot be used, in one sentence."""
    try:
        yield
    except (ParameterException, RuntimeError, TypeError) as error:
        if not node.context.ok():  # Ctrl-C, which is no fault of the profile.
            raise
        raise Vl4adError(f"Topic {node.resolve_topic_name(topic)} (qos_overrides): {error}") from error
