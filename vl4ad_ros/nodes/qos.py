"""Quality of service: the profiles of the topics, and publishers and subscriptions whose profile parameters can change.

Everything made here has the parameters `qos_overrides.TOPIC.publisher.*` or `.subscription.*` (history, depth,
reliability), to be given in a parameter file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from vl4ad_ros.io.errors import Vl4adError

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # The module's name in Humble.
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError


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
    """Create a publisher with the parameters `qos_overrides.TOPIC.publisher.*`.

    Raises:
        Vl4adError: If such a parameter cannot be used.
    """
    options = QoSOverridingOptions.with_default_policies()
    with _named_errors(node, topic):
        return node.create_publisher(message, topic, copy(qos), qos_overriding_options=options)


def create_subscription(
    node: Node,
    message: type,
    topic: str,
    callback: Callable[[Any], object],
    qos: QoSProfile,
    *,
    raw: bool = False,
    settle: Callable[[QoSProfile], object] | None = None,
    on_mismatch: Callable[[Any], object] | None = None,
    on_lost: Callable[[int], object] | None = None,
) -> Any:
    """Create a subscription with the parameters `qos_overrides.TOPIC.subscription.*`.

    Args:
        node: Whose subscription it is.
        message: The message type.
        topic: The topic, to be remapped.
        callback: Takes the messages.
        qos: The profile where no parameter says otherwise.
        raw: Whether the callback takes serialized bytes.
        settle: Called with the profile after the parameters; may change it.
        on_mismatch: Called when a publisher's profile does not match; None logs a warning.
        on_lost: Takes how many messages were lost in transport, where the middleware tells.

    Raises:
        Vl4adError: If such a parameter cannot be used.
    """

    def settled(overridden: QoSProfile) -> SetParametersResult:
        if settle is not None:
            settle(overridden)
        return SetParametersResult(successful=True)

    def create(message_lost: Callable[[Any], object] | None) -> Any:
        return node.create_subscription(
            message,
            topic,
            callback,
            copy(qos),  # The parameters are written into it.
            raw=raw,
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=on_mismatch, message_lost=message_lost),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(callback=settled),
        )

    with _named_errors(node, topic):
        if on_lost is not None:
            with suppress(UnsupportedEventTypeError):
                return create(lambda lost: on_lost(lost.total_count_change))
        return create(None)


@contextmanager
def _named_errors(node: Node, topic: str) -> Iterator[None]:
    """Tell in one sentence which topic has a profile that cannot be used."""
    try:
        yield
    except (ParameterException, RuntimeError, TypeError) as error:
        if not node.context.ok():  # Ctrl-C, which is no fault of the profile.
            raise
        raise Vl4adError(f"Topic {node.resolve_topic_name(topic)} (qos_overrides): {error}") from error
