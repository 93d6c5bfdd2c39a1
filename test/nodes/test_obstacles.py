"""Obstacles of the running node, and their messages."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ros_harness import Client, image_message, parameters, plain, running
from sensor_msgs.msg import CameraInfo, PointCloud2
from std_msgs.msg import Header

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.nodes.mounting import Mounting
from vl4ad_ros.nodes.obstacles import detections_3d, point_cloud
from vl4ad_ros.runtime.ground import ground_plane
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
        tenths, info = itertools.count(10), calibration()

        def send() -> None:
            sender.publish(info)
            stamp = divmod(next(tenths) * 100_000_000, 1_000_000_000)
            client.send_until_heard(image_message(picture, stamp=stamp, frame_id="lens"), maps)

        def said(text: str) -> bool:
            send()
            return any(text in v.value for a in diagnostics for s in a.status for v in s.values)

        client.wait("the reason why there are no obstacles", lambda: said("ground.height"))
        info.width = 320
        client.wait("the camera_info that does not fit", lambda: said("camera_info describes an image of 320x64"))
        info.width = 96
        assert not clouds
        assert client.set_parameter("ground.height", 1.5).successful

        def seen() -> bool:
            send()
            return bool(clouds and clouds[-1].width)

        client.wait("points", seen)
        assert client.set_parameter("ground.frame", "base_footprint").successful
        client.wait("that there is no TF here", lambda: said("tf2_ros is not installed"))
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


def test_the_overlay_shows_obstacles_as_markers(tmp_path: Path, client: Client) -> None:
    msgs = pytest.importorskip("visualization_msgs.msg", reason="visualization_msgs is not installed")
    markers = client.hear(msgs.MarkerArray, "/overlay/markers")
    contacts = tuple((column, 51) for column in range(44, 60, 3))
    region = Region(44, 36, 16, 16, 256, 0.5, 0.7, contacts, id=7, confirmed=True)
    obstacles = ground_plane(GroundSettings(height=1.5), calibration()).obstacles([region], (64, 96))
    sender = client.node.create_publisher(PointCloud2, "/detector/obstacle_points", 1)
    with running("vl4ad_ros.nodes.overlay", tmp_path / "log") as overlay:

        def shown() -> bool:
            sender.publish(PointCloud2(point_step=3, data=b"123"))  # Some other thing's.
            sender.publish(point_cloud(Header(frame_id="lens"), obstacles))
            return bool(markers)

        client.wait("markers", shown)
    removal, box, text = markers[-1].markers
    assert (removal.action, box.header.frame_id, box.id) == (msgs.Marker.DELETEALL, "lens", 7)
    assert (box.pose.position.y, box.scale.y) == (pytest.approx(1.0), 1.0), "from the ground up"
    assert box.pose.position.z == pytest.approx(1.5 / 0.2)
    assert text.text.startswith("#7 7.5 m")
    assert "Traceback" not in overlay.output()


class Buffer:
    """tf2_ros.Buffer, with one transform in it."""

    pose = ((0.0, 0.0, 1.4), (-0.5, 0.5, -0.5, 0.5))

    def lookup_transform(self, target: str, source: str, time: Any) -> Any:
        if source != "lens":
            raise LookupError(f"{source} is in no tree with {target}")
        position, rotation = (SimpleNamespace(**dict(zip("xyzw", values, strict=False))) for values in self.pose)
        return SimpleNamespace(transform=SimpleNamespace(translation=position, rotation=rotation))


@pytest.fixture
def locate(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[GroundSettings, str]]:
    """A mounting by a stand-in for tf2_ros; the real one is on no registry."""
    listener = SimpleNamespace(unregister=lambda: None)
    module = SimpleNamespace(Buffer=Buffer, TransformListener=lambda *_: listener, TransformException=LookupError)
    monkeypatch.setitem(sys.modules, "tf2_ros", module)
    mounting = Mounting(None)
    return lambda frame_id: mounting.locate(GroundSettings(frame="base_footprint", height=9.0), frame_id)


def test_height_and_pitch_come_from_tf(locate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, source = locate("lens")
    assert (settings.height, settings.pitch, source) == (1.4, pytest.approx(0.0), "TF base_footprint")
    # Turned downwards by 0.2 about the camera's x axis, which is (1, 0, 0) in its own frame.
    x, y, z, w = Buffer.pose[1]
    c, s = np.cos(-0.1), np.sin(-0.1)
    turned = (w * s + x * c, y * c + z * s, z * c - y * s, w * c - x * s)
    monkeypatch.setattr(Buffer, "pose", ((0.0, 0.0, 1.4), turned))
    assert locate("lens")[0].pitch == pytest.approx(0.2)


@pytest.mark.parametrize("pose", [((0, 0, 1.4), (0, 0, 0, 1)), ((0, 0, -1.4), (-0.5, 0.5, -0.5, 0.5))])
def test_a_frame_that_is_no_cameras_is_named(locate: Any, monkeypatch: pytest.MonkeyPatch, pose: Any) -> None:
    monkeypatch.setattr(Buffer, "pose", pose)
    with pytest.raises(Vl4adError, match="lens"):
        locate("lens")
    with pytest.raises(Vl4adError, match="No TF from cam"):
        locate("cam")


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
