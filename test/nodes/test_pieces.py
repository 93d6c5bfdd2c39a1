"""The node's ROS-free parts against values on paper: regions, camera_info, health, parts, messages in bytes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import field, make_dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mock_bundle import compiled_set
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.images import camera_info_beside, image_bytes
from vl4ad_ros.nodes import health, messages
from vl4ad_ros.nodes.cdr import OutgoingMaps, check_frame_id, map_image, read_image
from vl4ad_ros.nodes.health import Summary
from vl4ad_ros.nodes.overlay import FrameParts
from vl4ad_ros.nodes.worker import FrameSlots
from vl4ad_ros.runtime.regions import MAX_REGIONS, Region, find_regions
from vl4ad_ros.runtime.settings import PARAMETERS, check_values


def test_regions_are_the_connected_components_largest_first() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[2:5, 3:7] = 255  # 12 pixels
    mask[10:15, 10:20] = 255  # 50 pixels
    mask[15, 20] = 255  # touches it at a corner: 8-connected
    mask[0, 29] = 255  # 1 pixel
    uncertainty = np.full((20, 30), 0.25, np.float32)
    uncertainty[10, 10] = 0.75
    large, small = find_regions(mask, uncertainty, min_area=2)
    assert (large.x, large.y, large.width, large.height, large.area) == (10, 10, 11, 6, 51)
    assert large.mean == pytest.approx((50 * 0.25 + 0.75) / 51)
    assert large.max == 0.75
    assert small == Region(3, 2, 4, 3, 12, 0.25, 0.25)
    assert len(find_regions(mask, uncertainty)) == 3
    assert find_regions(np.zeros_like(mask), uncertainty) == ()


def test_a_mask_of_noise_gives_a_bounded_number_of_regions() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[::2, ::2] = 255
    assert len(find_regions(mask, np.ones((100, 100), np.float32))) == MAX_REGIONS


def camera_info(**changes: Any) -> CameraInfo:
    info = CameraInfo(height=1080, width=1920, distortion_model="plumb_bob", d=[0.1, 0.2, 0.0, 0.0, 0.0])
    info.k = [1000.0, 0.0, 959.5, 0.0, 1100.0, 539.5, 0.0, 0.0, 1.0]
    info.p = [900.0, 0.0, 950.0, -90.0, 0.0, 910.0, 530.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    for name, value in changes.items():
        setattr(info, name, value)
    return info


def project(matrix: Any, columns: int, point: tuple[float, float, float]) -> Any:
    rows = np.asarray(matrix).reshape(3, columns)
    x, y, w = rows @ np.array([*point, 1.0][:columns])
    return float(x / w), float(y / w)


def rescaled(info: CameraInfo, image: tuple[int, int], output: tuple[int, int]) -> CameraInfo:
    return messages.rescaled_camera_info(info, Header(), image, output)


def test_camera_info_of_a_smaller_map_projects_to_the_same_place() -> None:
    info = camera_info()
    same = rescaled(info, (1080, 1920), (1080, 1920))
    assert list(same.k) == pytest.approx(list(info.k))
    assert list(same.p) == pytest.approx(list(info.p))
    out = rescaled(info, (1080, 1920), (270, 640))
    assert (out.height, out.width, out.distortion_model, list(out.d)) == (270, 640, "plumb_bob", list(info.d))
    for name, columns in (("k", 3), ("p", 4)):
        for point in ((0.0, 0.0, 1.0), (0.3, -0.2, 2.0)):
            x, y = project(getattr(info, name), columns, point)
            # Pixel centres: the left edge of the image is at -0.5 in both.
            on_paper = ((x + 0.5) / 3 - 0.5, (y + 0.5) / 4 - 0.5)
            assert project(getattr(out, name), columns, point) == pytest.approx(on_paper)
    assert list(out.r) == list(info.r)


def test_region_of_interest_and_binning_are_folded_in() -> None:
    info = camera_info(binning_x=2, binning_y=2)
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 100, 40, 800, 600
    out = rescaled(info, (300, 400), (300, 400))
    x, y = project(info.k, 3, (0.1, 0.1, 1.0))
    on_paper = ((x + 0.5 - 100) / 2 - 0.5, (y + 0.5 - 40) / 2 - 0.5)
    assert project(out.k, 3, (0.1, 0.1, 1.0)) == pytest.approx(on_paper)
    assert (out.binning_x, out.roi.x_offset, out.roi.width) == (0, 0, 0)
    # A driver may round a binned size up or down.
    info.roi.width, info.roi.height = 385, 200
    for width in (192, 193):
        assert rescaled(info, (100, width), (100, width)).k[0] == pytest.approx(info.k[0] / 2)
    for width in (191, 194, 1920):
        with pytest.raises(Vl4adError, match=f"but the image is {width}x100"):
            rescaled(info, (100, width), (100, width))


LIMITS = {parameter.name: parameter.default for parameter in PARAMETERS}


def summary(**changes: Any) -> Summary:
    values: dict[str, Any] = {
        "rate_in": 10.0, "rate_out": 10.0, "totals": {}, "recent": {"received": 10}, "median_ms": {"age": 50.0},
        "p95_ms": {}, "silent_s": 0.1,
    }  # fmt: skip
    return Summary(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "limits", "level", "text"),
    [
        ({}, {}, health.OK, "running"),
        ({"median_ms": {"age": 300.0}}, {}, health.WARN, "300 ms old"),
        ({"median_ms": {"age": 1300.0}}, {}, health.ERROR, "1300 ms old"),
        ({"rate_out": 4.0}, {"diagnostics.rate_warn_hz": 5.0}, health.WARN, "4.0 results per second"),
        ({"rate_out": 4.0}, {"diagnostics.rate_error_hz": 5.0}, health.ERROR, "4.0 results per second"),
        ({"silent_s": 3.0}, {}, health.WARN, "no frame for 3.0 s"),
        ({"silent_s": 3.0}, {"diagnostics.silent_error_s": 1.0}, health.ERROR, "no frame"),
        ({"recent": {"received": 10, "bad: step": 1}}, {}, health.WARN, "1 unusable frames (step)"),
        ({"recent": {"received": 10, "bad: step": 6}}, {}, health.ERROR, "6 unusable"),
        ({"recent": {"received": 10, "engine error": 1}}, {}, health.ERROR, "engine failed"),
        ({"recent": {"received": 10, "zero stamp": 10}}, {}, health.WARN, "zero stamp (10 times)"),
    ],
)
def test_health_by_the_limits(changes: dict[str, Any], limits: dict[str, Any], level: int, text: str) -> None:
    judged, sentence = health.judge(summary(**changes), LIMITS | limits, listened_to=True)
    assert judged == level
    assert text in sentence


def test_nobody_listening_is_no_fault() -> None:
    slow = summary(rate_out=0.0, median_ms={"age": 5000.0})
    assert health.judge(slow, LIMITS | {"diagnostics.rate_error_hz": 5.0}, listened_to=False)[0] == health.OK


def test_parts_waits_for_all_parts_and_forgets_the_old() -> None:
    parts = FrameParts({"a", "b"}, keep_frames=2, keep_bytes=1000)
    assert parts.add(1, "a", "1a") is None
    assert parts.add(2, "a", "2a") is None
    assert parts.add(2, "b", "2b") == {"a": "2a", "b": "2b"}
    assert parts.add(1, "b", "1b") is None  # 1 was older than a complete frame
    for key in (3, 4, 5):
        parts.add(key, "a", key)
    assert parts.add(3, "b", "late") is None
    assert parts.add(5, "b", "5b") == {"a": 5, "b": "5b"}


def test_parts_holds_no_more_than_its_bytes_but_always_the_newest() -> None:
    parts = FrameParts({"a", "b"}, keep_frames=64, keep_bytes=1000)
    for key in (1, 2, 3):
        parts.add(key, "a", key, 400)
    assert parts.add(1, "b", "b") is None  # 1200 bytes were too many
    assert parts.add(3, "b", "b") is not None
    parts.add(4, "a", 4, 5000)
    assert parts.add(4, "b", "b") is not None


def test_under_overload_each_camera_gets_its_turn() -> None:
    slots = FrameSlots(4)
    served: Counter[int] = Counter()
    for _ in range(120):
        for camera in range(4):  # every camera is faster than the worker
            slots.put(camera, b"")
        served.update(taken.camera for taken in slots.take(3, 0.0))
    assert served == dict.fromkeys(range(4), 90)


def test_a_batch_waits_for_the_others_only_as_long_as_it_may() -> None:
    slots = FrameSlots(2)
    slots.put(0, b"here")
    assert [taken.message for taken in slots.take(2, 0.01)] == [b"here"]
    slots.put(0, b"first")
    threading.Timer(0.05, slots.put, (1, b"second")).start()
    assert {taken.message for taken in slots.take(2, 60.0)} == {b"first", b"second"}


@pytest.mark.parametrize("stored", [b"camera", b"came\xff\xfe", b"ca\0era", b"came\xc3(", b"camer\0"])
def test_a_frame_id_goes_out_as_it_came_or_not_at_all(stored: bytes) -> None:
    raw = bytearray(serialize_message(Image(header=Header(frame_id="camera"))))
    raw[16:22] = stored
    header = read_image(bytes(raw))[0].header
    if stored == b"camera":
        check_frame_id(bytes(raw), header)
    else:
        with pytest.raises(ValueError, match="frame_id"):
            check_frame_id(bytes(raw), header)


@pytest.mark.parametrize("frame_id", ["", "a", "abc", "abcd", "mä ☂"])
@pytest.mark.parametrize("pixels", [np.arange(12, dtype=np.float32).reshape(3, 4), np.eye(5, 7, dtype=np.uint8)])
def test_serialized_maps_are_what_rclpy_would_write(frame_id: str, pixels: Any) -> None:
    header = Header(frame_id=frame_id)
    header.stamp.sec, header.stamp.nanosec = -3, 2**32 - 1
    plain = map_image(header, pixels)
    outgoing = OutgoingMaps(header)
    room = outgoing.room("map", pixels.shape, pixels.dtype.type)
    room[:] = pixels
    assert deserialize_message(outgoing.serialized["map"], Image) == plain
    del outgoing
    assert np.array_equal(room, pixels)  # the place keeps its message alive
    assert (plain.height, plain.width, plain.step) == (*pixels.shape, pixels.shape[1] * pixels.itemsize)
    head, data = read_image(serialize_message(plain))
    assert bytes(data) == pixels.tobytes()
    head.data = image_bytes(pixels)
    assert head == plain


def test_every_prefix_of_an_image_message_is_refused_not_misread() -> None:
    raw = serialize_message(map_image(Header(frame_id="camera"), np.ones((3, 4), np.uint8)))
    for length in range(len(raw)):
        with pytest.raises(Exception, match=r"."):  # of struct, of rclpy, or ours: the worker counts them all
            read_image(raw[:length])


def vision_msgs_stand_in() -> SimpleNamespace:
    """The messages of vision_msgs 4, which is on no registry: their fields, and no others."""

    def message(name: str, **fields: Callable[[], Any]) -> Any:
        specification = [(key, Any, field(default_factory=make)) for key, make in fields.items()]
        return make_dataclass(name, specification, slots=True)

    point = message("Point2D", x=float, y=float)
    pose = message("Pose2D", position=point, theta=float)
    box = message("BoundingBox2D", center=pose, size_x=float, size_y=float)
    hypothesis = message("ObjectHypothesis", class_id=str, score=float)
    return SimpleNamespace(
        ObjectHypothesisWithPose=message("ObjectHypothesisWithPose", hypothesis=hypothesis, pose=object),
        Detection2D=message("Detection2D", header=Header, results=list, bbox=box, id=str),
        Detection2DArray=message("Detection2DArray", header=Header, detections=list),
        VisionClass=message("VisionClass", class_id=int, class_name=str),
        LabelInfo=message("LabelInfo", header=Header, class_map=list, threshold=float),
        VisionInfo=message("VisionInfo", header=Header, method=str, database_location=str, database_version=int),
    )


def test_regions_and_labels_fill_the_fields_of_vision_msgs() -> None:
    vision_msgs = vision_msgs_stand_in()
    array = messages.regions_detections(vision_msgs, Header(frame_id="c"), [Region(10, 20, 4, 6, 24, 0.5, 0.75, id=9)])
    (detection,) = array.detections
    assert (array.header.frame_id, detection.header.frame_id, detection.id) == ("c", "c", "9")
    assert (detection.bbox.center.position.x, detection.bbox.center.position.y) == (12.0, 23.0)
    assert (detection.bbox.size_x, detection.bbox.size_y) == (4.0, 6.0)
    hypotheses = [(result.hypothesis.class_id, result.hypothesis.score) for result in detection.results]
    assert hypotheses == [("anomaly", 0.5), ("anomaly_max", 0.75), ("anomaly_fill", 1.0)]
    # The overlay reads them back.
    half = Region(10, 20, 4, 6, 12, 0.5, 0.75, id=9)
    array = messages.regions_detections(vision_msgs, Header(), [half])
    assert messages.regions_of_detections(array) == [half]
    info = messages.vision_info(vision_msgs, Header(), "vl4ad", "/detector/prompt_set", 7)
    assert (info.database_version, info.database_location, info.method) == (7, "/detector/prompt_set", "vl4ad")
    labels = messages.label_info(vision_msgs, Header(), compiled_set("merged"), 0.7)
    assert [(one.class_id, one.class_name) for one in labels.class_map] == [(0, "light")]  # the OOD column is no class
    assert labels.threshold == 0.7


@pytest.mark.parametrize(
    ("image", "info"),
    [("/front/camera/image_raw/compressed", "/front/camera/camera_info"), ("/image", "/camera_info")],
)
def test_the_camera_info_beside_an_image(image: str, info: str) -> None:
    assert camera_info_beside(image) == info


@pytest.mark.parametrize("cameras", [["front", "rear_left"], [""], ["camera2"]])
def test_camera_names(cameras: list[str]) -> None:
    check_values({"cameras": cameras})


@pytest.mark.parametrize("cameras", [[], ["", "a"], ["a", "a"], ["2nd"], ["a/b"], ["a__b"], ["é"]])
def test_camera_names_that_are_no_topic_names(cameras: list[str]) -> None:
    with pytest.raises(Vl4adError, match="cameras: "):
        check_values({"cameras": cameras})
