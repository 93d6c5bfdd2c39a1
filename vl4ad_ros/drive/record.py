"""Writing a drive as a bag."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vl4ad_ros.drive.render import SPEED, Drive, DriveFrame
from vl4ad_ros.drive.road import FOCAL_PER_WIDTH, Camera
from vl4ad_ros.io.bag_writer import IMAGE_TOPIC, LABEL_TOPIC, BagWriter
from vl4ad_ros.io.children import end_with_parent

INFO_TOPIC, ODOMETRY_TOPIC = "/camera/camera_info", "/odom"
FRAME_ID = "camera"
# A fixed date, so that the same seed writes the same bag: 2026-01-01 00:00:00 UTC.
START_NS = 1_767_225_600_000_000_000


@cache
def _drive(*numbers: float) -> Drive:
    cv2.setNumThreads(1)
    return Drive(*numbers)  # type: ignore[arg-type]


def _draw(numbers: tuple[float, ...], index: int) -> DriveFrame:
    return _drive(*numbers).frame(index)


def draw_all(drive: Drive, jobs: int) -> Iterator[DriveFrame]:
    """Yield the frames of a drive in order, drawn by several processes."""
    if jobs == 1:
        yield from map(drive.frame, range(drive.frames))
        return
    draw = partial(_draw, (drive.seed, drive.frames, drive.width, drive.height, drive.rate))
    with ProcessPoolExecutor(jobs, get_context("spawn"), end_with_parent, (os.getpid(),)) as pool:
        yield from pool.map(draw, range(drive.frames), chunksize=2)


def record(drive: Drive, path: str | Path, jobs: int = 1, progress: Callable[[int], object] | None = None) -> None:
    """Write a drive, drawn by `jobs` processes, as a rosbag2 in MCAP with image, camera_info and label topics."""
    with BagWriter(path) as bag:
        bag.add_topic(IMAGE_TOPIC, "sensor_msgs/msg/Image")
        bag.add_topic(INFO_TOPIC, "sensor_msgs/msg/CameraInfo")
        bag.add_topic(LABEL_TOPIC, "sensor_msgs/msg/Image")
        bag.add_topic(ODOMETRY_TOPIC, "nav_msgs/msg/Odometry")
        focal = FOCAL_PER_WIDTH * drive.width
        for index, frame in enumerate(draw_all(drive, jobs)):
            stamp = START_NS + round(index * 1e9 / drive.rate)
            info = bag.camera_info(drive.width, drive.height, focal, stamp, FRAME_ID)
            bag.write(INFO_TOPIC, stamp, info)
            bag.write(ODOMETRY_TOPIC, stamp, _odometry(bag, drive.camera(index), stamp))
            bag.write(IMAGE_TOPIC, stamp, bag.image(frame.image, "rgb8", stamp, FRAME_ID))
            bag.write(LABEL_TOPIC, stamp, bag.image(frame.label, "mono8", stamp, FRAME_ID))
            if progress is not None:
                progress(index + 1)


def _odometry(bag: BagWriter, camera: Camera, stamp_ns: int) -> Any:
    """Return where the camera is on the ground, as nav_msgs/Odometry: x along the road, y to the left, metres."""
    x, _, z = camera.position
    point = bag.message("geometry_msgs/msg/Point", x=z, y=-x, z=0.0)
    half = -camera.yaw / 2
    turned = bag.message("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=float(np.sin(half)), w=float(np.cos(half)))
    zero = bag.message("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0)
    ahead = bag.message("geometry_msgs/msg/Vector3", x=SPEED, y=0.0, z=0.0)
    pose = bag.message("geometry_msgs/msg/Pose", position=point, orientation=turned)
    twist = bag.message("geometry_msgs/msg/Twist", linear=ahead, angular=zero)
    return bag.message(
        "nav_msgs/msg/Odometry",
        header=bag.header(stamp_ns, "odom"),
        child_frame_id="base_link",
        pose=bag.message("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36)),
        twist=bag.message("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=np.zeros(36)),
    )
