"""The messages that the detector publishes beside its maps."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_msgs.msg import Header, String

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.media import encode_png
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.runtime.regions import Region


def find_module(name: str) -> Any | None:
    """Return a module of an optional ROS package, or None where the package is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def text(content: object) -> String:
    """Return plain data as JSON in a std_msgs/String."""
    return String(data=json.dumps(content, ensure_ascii=False))


def stamp_dict(header: Header) -> dict[str, int]:
    """Return a header's stamp as plain data."""
    return {"sec": header.stamp.sec, "nanosec": header.stamp.nanosec}


def stamp_ns(header: Header) -> int:
    """Return a header's stamp in nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def rescaled_camera_info(
    info: CameraInfo, header: Header, image_size: tuple[int, int], output_size: tuple[int, int]
) -> CameraInfo:
    """Return a camera_info that describes the output image by itself: no binning, no region of interest.

    The input's K and P belong to the full sensor; its region of interest and binning say which part of it, and how
    coarsely, the image shows. The pixel centre convention is OpenCV's, by which the maps are resized:
    x_out = (x_in + 0.5) * scale - 0.5. Distortion and rectification stay.

    Args:
        image_size: Rows and columns of the image that came with it.
        output_size: Rows and columns of the published map.
    """
    bin_x, bin_y = max(info.binning_x, 1), max(info.binning_y, 1)
    roi = info.roi
    full_width, full_height = roi.width or info.width, roi.height or info.height
    sizes = ((full_height, bin_y, image_size[0]), (full_width, bin_x, image_size[1]))
    # A driver may round a size that the binning does not divide either way.
    if not all(size // by <= seen <= -(-size // by) for size, by, seen in sizes):
        raise Vl4adError(
            f"camera_info describes an image of {full_width // bin_x}x{full_height // bin_y}, but the image is "
            f"{image_size[1]}x{image_size[0]}."
        )
    scale_x = output_size[1] / (image_size[1] * bin_x)
    scale_y = output_size[0] / (image_size[0] * bin_y)

    def scaled(matrix: Any, columns: int) -> list[float]:
        values = [float(value) for value in matrix]
        for column in range(columns):
            values[column] *= scale_x
            values[columns + column] *= scale_y
        # The principal point is a position: shifted by the region of interest, and scaled about the pixels' corners.
        if any(values):
            values[2] += (0.5 - roi.x_offset) * scale_x - 0.5
            values[columns + 2] += (0.5 - roi.y_offset) * scale_y - 0.5
        return values

    return CameraInfo(
        header=header,
        height=output_size[0],
        width=output_size[1],
        distortion_model=info.distortion_model,
        d=info.d,
        r=info.r,
        k=scaled(info.k, 3),
        p=scaled(info.p, 4),
    )


def compressed_map(header: Header, uncertainty: NDArray[np.float32], kind: str) -> CompressedImage:
    """Return a map float32 [H, W] in [0, 1] as image_transport's `compressed` has it: mono16 PNG, or mono8 JPEG."""
    if kind == "jpeg":
        done, data = cv2.imencode(".jpg", np.rint(uncertainty * 255).astype(np.uint8))
        if not done:
            raise Vl4adError(f"A JPEG cannot be {uncertainty.shape[1]}x{uncertainty.shape[0]}.")
        return CompressedImage(header=header, format="mono8; jpeg compressed mono8", data=data.tobytes())
    grey = np.rint(uncertainty * 65535).astype(np.uint16)
    return CompressedImage(header=header, format="mono16; png compressed mono16", data=encode_png(grey))


def regions_text(header: Header, size: tuple[int, int], regions: Sequence[Region]) -> String:
    """Return regions as JSON: stamp, frame_id, the mask's size, and the regions' fields."""
    return text(
        {
            "stamp": stamp_dict(header),
            "frame_id": header.frame_id,
            "height": size[0],
            "width": size[1],
            "regions": [region.as_dict() for region in regions],
        }
    )


def regions_detections(vision_msgs: Any, header: Header, regions: Sequence[Region]) -> Any:
    """Return regions as vision_msgs/Detection2DArray.

    The message has no field for a largest score or an area, so each detection has three hypotheses, with scores from 0
    to 1: `anomaly` (mean uncertainty), `anomaly_max` (largest uncertainty) and `anomaly_fill` (area / area of the box).
    """
    array = vision_msgs.Detection2DArray(header=header)
    for region in regions:
        detection = vision_msgs.Detection2D(header=header, id=str(region.id or ""))
        detection.bbox.center.position.x = region.x + region.width / 2
        detection.bbox.center.position.y = region.y + region.height / 2
        detection.bbox.size_x = float(region.width)
        detection.bbox.size_y = float(region.height)
        fill = region.area / (region.width * region.height)
        for name, score in (("anomaly", region.mean), ("anomaly_max", region.max), ("anomaly_fill", fill)):
            hypothesis = vision_msgs.ObjectHypothesisWithPose()
            hypothesis.hypothesis.class_id = name
            hypothesis.hypothesis.score = float(score)
            detection.results.append(hypothesis)
        array.detections.append(detection)
    return array


def regions_of_detections(array: Any) -> list[Region]:
    """Return the regions of a vision_msgs/Detection2DArray that `regions_detections` made."""
    regions = []
    for detection in array.detections:
        box, scores = detection.bbox, [result.hypothesis.score for result in detection.results]
        width, height = round(box.size_x), round(box.size_y)
        corner = round(box.center.position.x - width / 2), round(box.center.position.y - height / 2)
        area = round(scores[2] * width * height)
        regions.append(Region(*corner, width, height, area, scores[0], scores[1], id=int(detection.id or 0)))
    return regions


def label_info(vision_msgs: Any, header: Header, prompt_set: CompiledPromptSet, threshold: float) -> Any:
    """Return the in-distribution classes of a prompt set as vision_msgs/LabelInfo."""
    message = vision_msgs.LabelInfo(header=header, threshold=threshold)
    message.class_map = [
        vision_msgs.VisionClass(class_id=index, class_name=name)
        for index, name in enumerate(prompt_set.columns[: prompt_set.num_id])
    ]
    return message


def vision_info(vision_msgs: Any, header: Header, method: str, topic: str, version: int) -> Any:
    """Return vision_msgs/VisionInfo; its database_version goes up with each swap."""
    return vision_msgs.VisionInfo(header=header, method=method, database_location=topic, database_version=version)


def status(level: int, name: str, message: str, hardware_id: str, values: Mapping[str, object]) -> DiagnosticStatus:
    """Return a diagnostic status."""
    shown = {key: f"{value:.2f}" if isinstance(value, float) else str(value) for key, value in values.items()}
    return DiagnosticStatus(
        level=bytes([level]),
        name=name,
        message=message,
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=value) for key, value in shown.items()],
    )
