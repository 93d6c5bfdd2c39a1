"""Obstacles as visualization_msgs/MarkerArray, for RViz and Foxglove."""

from __future__ import annotations

from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from sensor_msgs.msg import PointCloud2

from vl4ad_ros.nodes.obstacles import POINT

# Metres: what is drawn of a thing whose height and depth nobody knows.
HEIGHT, DEPTH = 1.0, 0.3
# A picture of the past says nothing.
LIFETIME = Duration(nanosec=500_000_000)


def obstacle_markers(msgs: Any, cloud: PointCloud2) -> Any:
    """Return a box and a text (track, distance, uncertainty) for each obstacle of a detector's `~/obstacle_points`.

    Args:
        msgs: The module visualization_msgs.msg.

    Raises:
        ValueError: If the cloud is no detector's.
    """
    if cloud.point_step != POINT.itemsize:
        raise ValueError(f"points of {cloud.point_step} bytes, expected {POINT.itemsize}")
    points = np.frombuffer(bytes(cloud.data), POINT)
    array = msgs.MarkerArray(markers=[msgs.Marker(header=cloud.header, action=msgs.Marker.DELETEALL)])
    for id in np.unique(points["id"]):
        own = points[points["id"] == id]
        place = np.array([own[name].mean() for name in "xyz"], np.float64)
        uncertainty = float(own["uncertainty"][0])
        box = msgs.Marker(header=cloud.header, ns="obstacles", id=int(id), type=msgs.Marker.CUBE, lifetime=LIFETIME)
        # The camera's y points down: the box stands on the ground.
        box.pose.position.x, box.pose.position.y, box.pose.position.z = place - (0, HEIGHT / 2, 0)
        box.scale.x, box.scale.y, box.scale.z = float(np.ptp(own["x"])) + DEPTH, HEIGHT, DEPTH
        box.color.r, box.color.g, box.color.a = 1.0, 1 - uncertainty, 0.6
        text = msgs.Marker(header=cloud.header, ns="texts", id=int(id), type=msgs.Marker.TEXT_VIEW_FACING)
        text.lifetime, text.text = LIFETIME, f"#{id} {np.hypot(place[0], place[2]):.1f} m {uncertainty:.2f}"
        text.pose.position.x, text.pose.position.y, text.pose.position.z = place - (0, HEIGHT * 1.3, 0)
        text.scale.z = HEIGHT / 2
        text.color.r = text.color.g = text.color.b = text.color.a = 1.0
        array.markers += [box, text]
    return array
