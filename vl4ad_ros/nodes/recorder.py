"""The recorder: what the detector publishes, as it arrives, into a bag.

Messages are written as they came over the wire, unopened. Their log time is the moment of arrival on this machine's
clock, in nanoseconds since 1970. Minus `sent_ns` of the log of `vl4ad_ros.nodes.player`, that is the time
from the camera's message to the detector's.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import Image
from std_msgs.msg import String

from vl4ad_ros.io.bag_writer import BagWriter
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.nodes.guard import GuardedExecutor
from vl4ad_ros.nodes.input_topic import InputTopic
from vl4ad_ros.nodes.qos import LATCHED, QUEUE
from vl4ad_ros.runtime.settings import RELIABILITIES

# Printed on standard output when everything that is recorded has a publisher and the prompt set has come.
READY = "recording"


class Recorder(Node):
    """Writes the outputs of one detector into a bag.

    Attributes:
        bag: What is written into.
        counts: Messages written, by topic.
        fault: Why nothing more can be written; empty while it can.
    """

    def __init__(self, detector: str, bag: BagWriter, source: str = "", reliability: str = RELIABILITIES[0]) -> None:
        """Subscribe.

        Args:
            detector: The detector's full name, e.g. `/detector`.
            bag: An open bag without topics.
            source: The camera's topic: as long as somebody publishes on it, the run goes on.
            reliability: How the outputs are heard: one of `RELIABILITIES`.

        Raises:
            Vl4adError: If a parameter of the topics' quality of service cannot be used.
        """
        super().__init__("recorder")
        self._source, self._source_seen = source, False
        self.bag = bag
        self._last = time.monotonic()
        self.counts: dict[str, int] = {}
        self.fault = ""
        for name, message, qos in (
            ("prompt_set", String, LATCHED),
            ("uncertainty", Image, QUEUE),
            ("anomaly_mask", Image, QUEUE),
        ):
            topic = f"{detector}/{name}"
            self.counts[topic] = 0
            bag.add_topic(topic, f"{message.__module__.split('.')[0]}/msg/{message.__name__}")
            InputTopic(self, message, topic, partial(self._write, topic), qos, choice=lambda: reliability, raw=True)

    def _write(self, topic: str, data: bytes) -> None:
        arrived = time.time_ns()
        self._last = time.monotonic()
        try:
            self.bag.write_raw(topic, arrived, data)
            self.counts[topic] += 1
        except Exception as error:  # A full disk, say: what follows would lie behind half a message.
            self.fault = f"The bag {self.bag.path} ends here, {topic} cannot be written ({error})."

    def ready(self) -> bool:
        """Return whether every topic has a publisher and the detector has told its prompt set."""
        prompt_set = next(iter(self.counts))
        return self.counts[prompt_set] > 0 and all(self.count_publishers(topic) > 0 for topic in self.counts)

    def quiet_s(self) -> float:
        """Return for how many seconds nothing has come, after the source (where it is known) has gone."""
        if self._source and self.count_publishers(self._source) > 0:
            self._source_seen = True
            self._last = time.monotonic()
        begun = self._source_seen if self._source else sum(self.counts.values()) > 1
        return time.monotonic() - self._last if begun else 0.0


def main(args: Sequence[str] | None = None) -> int:
    """Record until nothing has come for a while, or until interrupted."""
    parser = argparse.ArgumentParser(prog="recorder", description="Write the detector's outputs into a bag.")
    parser.add_argument("out", type=Path, help="folder of the new bag")
    parser.add_argument("--detector", default="/detector", help="full name of the detector node")
    parser.add_argument("--source", default="", help="the camera's topic: the run lasts as long as it has a publisher")
    parser.add_argument("--idle", type=float, default=0.0, help="stop this many seconds after the last map; 0: never")
    parser.add_argument(
        "--image-reliability",
        choices=RELIABILITIES,
        default=RELIABILITIES[0],
        help="how the maps are heard; auto: reliably where the detector offers it",
    )
    given = list(sys.argv if args is None else args)
    options = parser.parse_args(remove_ros_args(given)[1:])
    signals: list[int] = []
    # Without rclpy's own handlers and KeyboardInterrupt, which would come in the middle of a message or of the closing.
    rclpy.init(args=given, signal_handler_options=SignalHandlerOptions.NO)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _: signals.append(got))
    try:
        with BagWriter(options.out, compress=False) as bag:
            node = Recorder(options.detector, bag, options.source, options.image_reliability)
            _record(node, options.idle, signals)
        if node.fault:
            raise Vl4adError(node.fault)
    except Vl4adError as error:
        print(f"recorder: {error}", file=sys.stderr)  # noqa: T201 - a program of its own
        return 2
    finally:
        rclpy.try_shutdown()
    return 0


def _record(node: Recorder, idle: float, signals: list[int]) -> None:
    executor = GuardedExecutor(node)
    told = False
    try:
        while not (signals or node.fault) and (not idle or node.quiet_s() < idle):
            executor.spin_once(timeout_sec=0.2)
            if not told and node.ready():
                told = True
                print(READY, flush=True)  # noqa: T201 - whoever started it waits for this line
        node.get_logger().info(f"Stopped: {node.counts}")
    except Exception as error:  # Whatever it is: the bag is to be closed with what it has.
        node.fault = f"The bag {node.bag.path} ends here ({error!r})."
    finally:
        executor.remove_node(node)
        node.destroy_node()


if __name__ == "__main__":
    sys.exit(main())
