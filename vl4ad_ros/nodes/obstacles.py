"""Obstacles of one camera: confirmed tracks as points on the ground, in the camera's optical frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, PointCloud2, PointField
from std_msgs.msg import Header

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.nodes.mounting import Mounting
from vl4ad_ros.nodes.qos import OUTPUT, create_publisher
from vl4ad_ros.runtime.ground import Obstacle, ground_plane
from vl4ad_ros.runtime.regions import Region
from vl4ad_ros.runtime.settings import GroundSettings

POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("uncertainty", "<f4"), ("id", "<u4")])


class ObstaclePublisher:
    """Publishes the regions of a camera that are confirmed and stand on the ground."""

    def __init__(self, node: LifecycleNode, prefix: str, vision_msgs: Any | None, mounting: Mounting) -> None:
        self._node, self._vision_msgs, self._mounting = node, vision_msgs, mounting
        self._points = create_publisher(node, PointCloud2, prefix + "obstacle_points", OUTPUT)
        self._detections = None
        if vision_msgs is not None:
            self._detections = create_publisher(node, vision_msgs.Detection3DArray, prefix + "obstacles", OUTPUT)
        self.source = ""  # where the camera's height and pitch came from
        self.problem = ""  # why nothing could be located in the last frame, for the diagnostics; empty where it could

    def wanted(self) -> bool:
        """Return whether somebody listens."""
        publishers = [one for one in (self._points, self._detections) if one is not None]
        return any(publisher.get_subscription_count() > 0 for publisher in publishers)

    def destroy(self) -> None:
        """Remove the topics."""
        for publisher in (self._points, self._detections):
            if publisher is not None:
                self._node.destroy_publisher(publisher)

    def publish(
        self,
        header: Header,
        regions: Sequence[Region],
        info: CameraInfo | Vl4adError | None,
        ground: GroundSettings,
    ) -> None:
        """Publish a frame's obstacles; without the calibration of the published map nothing goes out."""
        try:
            if info is None:
                raise Vl4adError("There is no camera_info: obstacles have no distance.")
            if isinstance(info, Vl4adError):
                raise info
            ground, self.source = self._mounting.locate(ground, header.frame_id)
            obstacles = ground_plane(ground, info).obstacles(regions, (info.height, info.width))
        except Vl4adError as error:
            self.problem = str(error)
            return
        self.problem = ""
        self._points.publish(point_cloud(header, obstacles))
        if self._detections is not None:
            self._detections.publish(detections_3d(self._vision_msgs, header, obstacles))


def point_cloud(header: Header, obstacles: Sequence[Obstacle]) -> PointCloud2:
    """Return the contact points of obstacles: x, y, z (metres), uncertainty (mean of the region) and id (the track)."""
    points = np.zeros(sum(len(obstacle.points.forward) for obstacle in obstacles), POINT)
    begin = 0
    for obstacle in obstacles:
        rows = points[begin : begin + len(obstacle.points.forward)]
        rows["x"], rows["y"], rows["z"] = obstacle.points.camera.T
        rows["uncertainty"], rows["id"] = obstacle.region.mean, obstacle.region.id
        begin += len(rows)
    kinds = {"<f4": PointField.FLOAT32, "<u4": PointField.UINT32}
    fields = [
        PointField(name=name, offset=4 * index, datatype=kinds[POINT[name].str], count=1)
        for index, name in enumerate(POINT.names or ())
    ]
    return PointCloud2(
        header=header, height=1, width=len(points), fields=fields, is_bigendian=False, point_step=POINT.itemsize,
        row_step=points.nbytes, data=points.tobytes(), is_dense=True,
    )  # fmt: skip


def detections_3d(vision_msgs: Any, header: Header, obstacles: Sequence[Obstacle]) -> Any:
    """Return obstacles as vision_msgs/Detection3DArray: the middle contact point with its variances, the track's id."""
    array = vision_msgs.Detection3DArray(header=header)
    for obstacle in obstacles:
        _, _, distance_sigma, left_sigma = obstacle.place
        hypothesis = vision_msgs.ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = "anomaly"
        hypothesis.hypothesis.score = float(obstacle.region.mean)
        position = hypothesis.pose.pose.position
        position.x, position.y, position.z = (float(value) for value in obstacle.points.camera[obstacle.middle])
        covariance = hypothesis.pose.covariance
        covariance[0], covariance[14] = left_sigma**2, distance_sigma**2
        detection = vision_msgs.Detection3D(header=header, id=str(obstacle.region.id), results=[hypothesis])
        detection.bbox.center.position = position
        detection.bbox.size.x = float(np.ptp(obstacle.points.left))
        array.detections.append(detection)
    return array
