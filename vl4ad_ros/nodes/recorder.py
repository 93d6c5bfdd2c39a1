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
from vl4ad_ros.nodes.executor import GuardedExecutor, start_ros
from vl4ad_ros.nodes.memory import prepare_memory
from vl4ad_ros.nodes.qos import LATCHED, QUEUE, InputTopic
from vl4ad_ros.runtime.settings import RELIABILITIES

# Printed on standard output when everything that is recorded has a publisher and the prompt set has come.
READY = "recording"
TOPICS = {
    "prompt_set": ("std_msgs/msg/String", String, LATCHED),
    "uncertainty": ("sensor_msgs/msg/Image", Image, QUEUE),
    "anomaly_mask": ("sensor_msgs/msg/Image", Image, QUEUE),
}


class Recorder(Node):
    """Writes the outputs of one detector into a bag."""

    def __init__(self, detector: str, bag: BagWriter, source: str, reliability: str) -> None:
        """Subscribe to a detector's outputs (full name, e.g. `/detector`), for an open bag without topics.

        As long as somebody publishes on `source`, the camera's topic, the run goes on; empty: not known.
        """
        super().__init__("recorder")
        self._source, self._source_seen = source, False
        self._bag = bag
        self._last = time.monotonic()
        self.counts: dict[str, int] = {}  # messages written, by topic; the prompt set first
        self.fault = ""  # why nothing more can be written; empty while it can
        for name, (kind, message, qos) in TOPICS.items():
            topic = f"{detector}/{name}"
            self.counts[topic] = 0
            bag.add_topic(topic, kind)
            InputTopic(self, message, topic, partial(self._write, topic), qos, choice=lambda: reliability, raw=True)

    def _write(self, topic: str, data: bytes) -> None:
        arrived = time.time_ns()
        self._last = time.monotonic()
        try:
            self._bag.write_raw(topic, arrived, data)
            self.counts[topic] += 1
        except Exception as error:  # A full disk, say: what follows would lie behind half a message.
            self.fault = f"The bag {self._bag.path} ends here, {topic} cannot be written ({error})."

    def _is_ready(self) -> bool:
        prompt_set = next(iter(self.counts))
        return self.counts[prompt_set] > 0 and all(self.count_publishers(topic) > 0 for topic in self.counts)

    def _quiet_s(self) -> float:
        """Return for how many seconds nothing has come, after the source (where it is known) has gone."""
        if self._source and self.count_publishers(self._source) > 0:
            self._source_seen = True
            self._last = time.monotonic()
        begun = self._source_seen if self._source else sum(self.counts.values()) > 1
        return time.monotonic() - self._last if begun else 0.0

    def record(self, idle_s: float, signals: list[int]) -> None:
        """Record until nothing has come for so long (0: never), a signal came, or nothing more can be written."""
        executor = GuardedExecutor(self)
        ready = False
        try:
            while not (signals or self.fault) and (not idle_s or self._quiet_s() < idle_s):
                executor.spin_once(timeout_sec=0.2)
                if not ready and self._is_ready():
                    ready = True
                    print(READY, flush=True)  # noqa: T201 - whoever started it waits for this line
            self.get_logger().info(f"Stopped: {self.counts}")
        except Exception as error:  # Whatever it is: the bag is to be closed with what it has.
            self.fault = f"The bag {self._bag.path} ends here ({error!r})."
        finally:
            executor.remove_node(self)
            self.destroy_node()


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
    prepare_memory()
    # Without rclpy's own handlers and KeyboardInterrupt, which would come in the middle of a message or of the closing.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _: signals.append(got))
    try:
        start_ros(given, signal_handler_options=SignalHandlerOptions.NO)
        with BagWriter(options.out, compress=False, keep=True) as bag:
            node = Recorder(options.detector, bag, options.source, options.image_reliability)
            node.record(options.idle, signals)
        if node.fault:
            raise Vl4adError(node.fault)
    except Vl4adError as error:
        print(f"recorder: {error}", file=sys.stderr)  # noqa: T201 - a program of its own
        return 2
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
