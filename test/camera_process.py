"""Cameras at 30 Hz in a process of their own: python -m camera_process HEIGHT WIDTH TOPIC...

The message is serialized once; only its stamp changes. Prints `N sent in S s` at the end (a line on standard input, or
its end).
"""

from __future__ import annotations

import sys
import threading
import time

import rclpy
from rclpy.node import Node
from rclpy.serialization import serialize_message
from ros_harness import SENSOR, image_message, plain
from sensor_msgs.msg import Image

from vl4ad_ros.nodes.memory import prepare_memory
from vl4ad_ros.nodes.player import with_stamp

RATE_HZ = 30.0


def main() -> None:
    prepare_memory()
    height, width, topics = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    stop = threading.Event()

    def wait_for_stop() -> None:
        sys.stdin.readline()
        stop.set()

    threading.Thread(target=wait_for_stop, daemon=True).start()
    rclpy.init()
    node = Node("cameras")
    picture = plain((255, 0, 0), height, width)
    frames = [serialize_message(image_message(picture, frame_id=topic)) for topic in topics]
    senders = [node.create_publisher(Image, topic, SENSOR) for topic in topics]
    began = due = time.monotonic()
    sent = 0
    while not stop.wait(max(0.0, due - time.monotonic())):
        for frame, sender in zip(frames, senders, strict=True):
            sender.publish(with_stamp(frame, time.time_ns()))
        sent += 1
        # A camera that was late does not hurry afterwards.
        due = max(due + 1 / RATE_HZ, time.monotonic() - 1 / RATE_HZ)
    sys.stdout.write(f"{sent} sent in {time.monotonic() - began:.2f} s\n")


if __name__ == "__main__":
    main()
