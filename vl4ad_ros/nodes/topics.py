"""The detector's topics, as the documentation lists them; a test holds the running node against this table."""

from __future__ import annotations

from dataclasses import dataclass

from vl4ad_ros.nodes.health import STAGES

AS_PUBLISHED = "as the publishers (`image_reliability`), depth 1"
RELIABLE = "reliable, depth 1"
LATCHED = "reliable, transient local, depth 1"


@dataclass(frozen=True)
class Topic:
    """One topic: its name with several cameras is `~/<camera>/NAME`, its first type the one without vision_msgs."""

    direction: str
    name: str
    types: tuple[str, ...]
    qos: str
    description: str
    needs: str = ""  # what must be there for the topic to be


TOPICS: tuple[Topic, ...] = (
    Topic("in", "image", ("sensor_msgs/msg/Image",), AS_PUBLISHED, "The camera's images; the newest one wins."),
    Topic(
        "in", "image/compressed", ("sensor_msgs/msg/CompressedImage",), AS_PUBLISHED, "The same as JPEG or PNG.",
        "compressed",
    ),
    Topic(
        "in", "camera_info", ("sensor_msgs/msg/CameraInfo",), AS_PUBLISHED,
        "Optional: the camera's calibration.",
    ),
    Topic(
        "out", "~/uncertainty", ("sensor_msgs/msg/Image",), RELIABLE,
        "32FC1 in [0, 1], higher = more anomalous, free of NaN; the input's stamp and frame_id, bit for bit.",
    ),
    Topic(
        "out", "~/uncertainty/compressed", ("sensor_msgs/msg/CompressedImage",), RELIABLE,
        "The same for recording, as image_transport has it; `uncertainty_format` says how.",
    ),
    Topic(
        "out", "~/anomaly_mask", ("sensor_msgs/msg/Image",), RELIABLE,
        "mono8: 255 where the uncertainty reaches the threshold, else 0.",
    ),
    Topic(
        "out", "~/camera_info", ("sensor_msgs/msg/CameraInfo",), RELIABLE,
        "The calibration of the maps: rescaled, binning and region of interest folded in.",
    ),
    Topic(
        "out", "~/regions", ("std_msgs/msg/String", "vision_msgs/msg/Detection2DArray"), RELIABLE,
        "Connected components of the mask with box, area, mean and largest score (JSON without vision_msgs).",
    ),
    Topic(
        "out", "~/obstacle_points", ("sensor_msgs/msg/PointCloud2",), RELIABLE,
        "Points x y z on the ground, with uncertainty and id, at which confirmed tracks stand, in the camera's optical "
        "frame. Needs `camera_info`, and `ground.height` or `ground.frame`.",
    ),
    Topic(
        "out", "~/obstacles", ("vision_msgs/msg/Detection3DArray",), RELIABLE,
        "The same as one detection per region, with variances.", "vision_msgs",
    ),
    Topic(
        "out", "~/prompt_set", ("std_msgs/msg/String",), LATCHED,
        "JSON: the prompt set and settings in force, and since which stamp.",
    ),
    Topic("out", "~/label_info", ("vision_msgs/msg/LabelInfo",), LATCHED, "The classes in force.", "vision_msgs"),
    Topic(
        "out", "~/vision_info", ("vision_msgs/msg/VisionInfo",), LATCHED,
        "Its database_version counts the swaps.", "vision_msgs",
    ),
    *(
        Topic("out", f"~/debug/{stage}_ms", ("std_msgs/msg/Float64",), RELIABLE, f"Milliseconds per frame: {stage}.")
        for stage in STAGES
    ),
    Topic("out", "/diagnostics", ("diagnostic_msgs/msg/DiagnosticArray",), "reliable, depth 10", "Once a second."),
)  # fmt: skip
