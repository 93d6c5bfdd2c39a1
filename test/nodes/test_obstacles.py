"""Obstacles of the running node, and their messages."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ros_harness import Client, image_message, parameters, plain, running
from sensor_msgs.msg import CameraInfo, PointCloud2
from std_msgs.msg import Header

from vl4ad_ros.nodes.obstacles import detections_3d, ground_plane
from vl4ad_ros.runtime.regions import Region
from vl4ad_ros.runtime.settings import GroundSettings

REMAP = ("-r", "image:=/camera/image", "-r", "camera_info:=/camera/camera_info")
POINT = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("uncertainty", "<f4"), ("id", "<u4")]


def calibration() -> CameraInfo:
    info = CameraInfo(height=64, width=96, distortion_model="plumb_bob")
    info.k = [100.0, 0.0, 47.5, 0.0, 100.0, 31.5, 0.0, 0.0, 1.0]
    return info


def test_a_thing_on_the_road_becomes_points_on_the_ground(mock_bundle: Path, tmp_path: Path, client: Client) -> None:
    maps, _ = client.hear_results()
    clouds = client.hear(PointCloud2, "/detector/obstacle_points")
    diagnostics = client.hear_diagnostics()
    picture = plain((255, 0, 0))
    picture[36:52, 44:60] = (0, 0, 255)
    values = parameters(bundle=str(mock_bundle), prompt_set="traffic", threshold=0.4, min_region_area=10)
    with running("vl4ad_ros.nodes.detector", tmp_path / "log", *REMAP, *values):
        client.wait_connected()
        sender = client.sender("/camera/camera_info", CameraInfo)
        tenths = itertools.count(10)

        def send() -> None:
            sender.publish(calibration())
            stamp = divmod(next(tenths) * 100_000_000, 1_000_000_000)
            client.send_until_heard(image_message(picture, stamp=stamp, frame_id="lens"), maps)

        def said() -> bool:
            send()
            return any("ground.height" in v.value for a in diagnostics for s in a.status for v in s.values)

        client.wait("the reason why there are no obstacles", said)
        assert not clouds
        assert client.set_parameter("ground.height", 1.5).successful

        def seen() -> bool:
            send()
            return bool(clouds and clouds[-1].width)

        client.wait("points", seen)
    cloud = clouds[-1]
    assert cloud.header.frame_id == "lens"
    assert [(f.name, f.offset) for f in cloud.fields] == [(name, 4 * i) for i, (name, _) in enumerate(POINT)]
    points = np.frombuffer(bytes(cloud.data), POINT)
    assert len(points) == cloud.width
    assert points["y"] == pytest.approx(1.5)
    # The block's lower edge is 20 pixels below the horizon, the score's cells are 4 pixels high.
    assert 1.5 * 100 / 24 < points["z"].min() <= points["z"].max() < 1.5 * 100 / 16
    assert set(points["id"]) == {1}
    assert points["uncertainty"] == pytest.approx(0.45, abs=0.06)


def test_obstacles_fill_the_fields_of_vision_msgs() -> None:
    def point() -> Any:
        return SimpleNamespace(x=0.0, y=0.0, z=0.0)

    def hypothesis() -> Any:
        pose = SimpleNamespace(pose=SimpleNamespace(position=point()), covariance=[0.0] * 36)
        return SimpleNamespace(hypothesis=SimpleNamespace(class_id="", score=0.0), pose=pose)

    def detection(**given: Any) -> Any:
        return SimpleNamespace(bbox=SimpleNamespace(center=SimpleNamespace(position=point()), size=point()), **given)

    vision_msgs = SimpleNamespace(
        Detection3DArray=lambda header: SimpleNamespace(header=header, detections=[]),
        Detection3D=detection,
        ObjectHypothesisWithPose=hypothesis,
    )
    plane = ground_plane(GroundSettings(height=1.5), calibration())
    contacts = tuple((column, 51) for column in range(44, 60, 3))
    region = Region(44, 36, 16, 16, 256, 0.5, 0.7, contacts, id=7, confirmed=True)
    obstacles = plane.obstacles([region], (64, 96))
    (found,) = detections_3d(vision_msgs, Header(frame_id="lens"), obstacles).detections
    assert (found.id, found.results[0].hypothesis.class_id, found.results[0].hypothesis.score) == ("7", "anomaly", 0.5)
    assert found.bbox.center.position.z == pytest.approx(1.5 / 0.2)
    assert found.results[0].pose.covariance[14] == pytest.approx(obstacles[0].place[2] ** 2)
