"""A camera driver like any other, with nothing of this project in it: a plain rclpy node, default quality of service.

python driver_process.py TOPIC HEIGHT WIDTH NUMBER RATE_HZ reliable|best_effort|keep_all SUBSCRIBERS

Waits until SUBSCRIBERS hear the images, sends NUMBER of them with their camera_info beside, waits until reliable
subscribers have them, and prints `NUMBER sent in S s`.
"""

from __future__ import annotations

import sys
import time
from array import array

import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image


def main() -> None:
    topic, height, width, number = sys.argv[1], *map(int, sys.argv[2:5])
    period, kind = 1 / float(sys.argv[5]), sys.argv[6]
    subscribers = int(sys.argv[7])
    rclpy.init()
    node = Node("driver_of" + topic.replace("/", "_"))
    if kind == "keep_all":
        qos = QoSProfile(history=HistoryPolicy.KEEP_ALL, reliability=ReliabilityPolicy.RELIABLE)
    else:
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy[kind.upper()])
    images = node.create_publisher(Image, topic, qos)
    infos = node.create_publisher(CameraInfo, topic.rsplit("/", 1)[0] + "/camera_info", qos)
    image = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    image.data = array("B", bytes(range(256)) * (3 * height * width // 256 + 1))[: 3 * height * width]
    info = CameraInfo(height=height, width=width, k=[100.0, 0.0, 0.0, 0.0, 100.0, 0.0, 0.0, 0.0, 1.0])
    while images.get_subscription_count() < subscribers:
        time.sleep(0.05)
    began = due = time.monotonic()
    for index in range(number):
        time.sleep(max(0.0, due - time.monotonic()))
        image.header.stamp.sec = info.header.stamp.sec = index + 1
        image.header.frame_id = info.header.frame_id = topic
        infos.publish(info)
        images.publish(image)
        due += period
    seconds = time.monotonic() - began
    images.wait_for_all_acked(Duration(seconds=10))
    sys.stdout.write(f"{number} sent in {seconds:.2f} s\n")
    sys.stdout.flush()
    sys.stdin.read()  # Until whoever started it has heard enough.


if __name__ == "__main__":
    main()
