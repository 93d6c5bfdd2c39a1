"""Cameras at 30 Hz in a process of their own: python -m camera_process HEIGHT WIDTH START_S TOPIC...

The message is serialized once; only its stamp changes: the time of sending, or START_S and on where that is not 0. Ends
on a signal.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress

import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.node import Node
from rclpy.serialization import serialize_message
from ros_harness import SENSOR, image_message, plain
from sensor_msgs.msg import Image

from vl4ad_ros.nodes.player import with_stamp

RATE_HZ = 30.0


def main() -> None:
    height, width, start_s = map(int, sys.argv[1:4])
    topics = sys.argv[4:]
    rclpy.init()
    node = Node("cameras")
    frames = [serialize_message(image_message(plain((255, 0, 0), height, width), frame_id=topic)) for topic in topics]
    senders = [node.create_publisher(Image, topic, SENSOR) for topic in topics]
    began = due = time.monotonic()
    while rclpy.ok():
        time.sleep(max(0.0, due - time.monotonic()))
        stamp = start_s * 10**9 + round((time.monotonic() - began) * 1e9) if start_s else time.time_ns()
        for frame, sender in zip(frames, senders, strict=True):
            with suppress(RCLError):  # The signal has ended the context by now.
                sender.publish(with_stamp(frame, stamp))
        # A camera that was late does not hurry afterwards.
        due = max(due + 1 / RATE_HZ, time.monotonic() - 1 / RATE_HZ)
    node.destroy_node()


if __name__ == "__main__":
    main()
