"""Start the detector and the overlay: ros2 launch vl4ad_ros detector.launch.py image_topic:=/camera/image_raw.

Several cameras on one engine: cameras:=front,rear image_topic:=image_raw hears front/image_raw and rear/image_raw, and
starts one overlay for each.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import Action, LaunchContext, LaunchDescription
from vl4ad_ros.runtime import settings

# This file lies in share/vl4ad_ros/launch, or in launch/ of the source tree.
DEFAULT_PARAMETERS = str(Path(__file__).resolve().parent.parent / "config" / "detector.yaml")

ARGUMENTS = (
    ("image_topic", "image", "Topic of the camera's sensor_msgs/Image."),
    (
        "camera_info_topic",
        "",
        "Topic of the camera's sensor_msgs/CameraInfo. Empty: camera_info beside the image, /camera/camera_info for "
        "/camera/image_raw.",
    ),
    (
        "cameras",
        "",
        "Names of several cameras, with commas between; the two topics above are then relative to each name. Empty: "
        "those of params_file, or the single camera.",
    ),
    ("params_file", DEFAULT_PARAMETERS, "YAML file with parameters; an argument below that is given wins over it."),
    ("overlay", "true", "Start the overlay node, too (one per camera); it works only while somebody looks."),
    ("namespace", "", "Namespace of the nodes."),
    ("log_level", "info", "Log level of the nodes."),
    ("respawn", "false", "Start a node again, a second after it ends."),
    ("use_sim_time", "", "Take the time from /clock, for bags; empty: that of params_file, or false."),
)
# The detector's parameters, too. Not given, they are not set: params_file's value holds, or the node's own.
PARAMETERS = tuple(parameter for parameter in settings.PARAMETERS if parameter.name != "cameras")
OF_THE_OVERLAY = {"use_sim_time", *(parameter.name for parameter in settings.OVERLAY_PARAMETERS)}


def _nodes(context: LaunchContext) -> list[Action]:
    """Describe the detector, and an overlay for each camera."""

    def text(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    types = {"use_sim_time": bool, **{parameter.name: parameter.type for parameter in PARAMETERS}}
    given = {
        name: ParameterValue(LaunchConfiguration(name), value_type=list[str] if kind is list else kind)
        for name, kind in types.items()
        if text(name)
    }
    params_file = text("params_file")
    cameras = [name.strip() for name in text("cameras").split(",") if name.strip()]
    chosen = {"cameras": cameras} if cameras else {}
    cameras = cameras or _cameras_in(params_file)
    prefixes = [f"{name}/" for name in cameras] or [""]
    remappings = [
        remapping
        for prefix in prefixes
        for remapping in (
            (f"{prefix}image", prefix + text("image_topic")),
            (f"{prefix}image/compressed", f"{prefix}{text('image_topic')}/compressed"),
        )
    ]
    if text("camera_info_topic"):  # Else the detector hears what is beside the image.
        remappings += [(f"{prefix}camera_info", prefix + text("camera_info_topic")) for prefix in prefixes]
    shared = {
        "package": "vl4ad_ros",
        "namespace": LaunchConfiguration("namespace"),
        "output": "screen",
        "respawn": text("respawn").lower() == "true",
        "respawn_delay": 1.0,
        "remappings": remappings,
        "arguments": ["--ros-args", "--log-level", LaunchConfiguration("log_level")],
    }
    detector = LifecycleNode(
        executable="detector",
        name="detector",
        parameters=[params_file, *([given] if given else []), *([chosen] if chosen else [])],
        **shared,
    )
    of_the_overlay = {name: value for name, value in given.items() if name in OF_THE_OVERLAY}
    overlays = [
        Node(
            executable="overlay",
            name=f"overlay_{camera}" if camera else "overlay",
            parameters=[params_file, {**of_the_overlay, "camera": camera}],
            condition=IfCondition(LaunchConfiguration("overlay")),
            **shared,
        )
        for camera in cameras or [""]
    ]
    return [detector, *overlays]


def _cameras_in(params_file: str) -> list[str]:
    """Names of the cameras that a parameter file gives the detector; each needs remappings and an overlay."""
    sections = yaml.safe_load(Path(params_file).read_text(encoding="utf-8")) or {}
    cameras: list[str] = []
    for name, section in sections.items():
        if name.split("/")[-1] in ("**", "detector"):
            cameras = (section or {}).get("ros__parameters", {}).get("cameras", cameras)
    return [camera for camera in cameras if camera]


def generate_launch_description() -> LaunchDescription:
    """Describe the nodes and the arguments."""
    described = [
        *ARGUMENTS,
        *((parameter.name, "", f"{parameter.description} Not given: params_file's, or {parameter.default!r}.")
          for parameter in PARAMETERS),
    ]  # fmt: skip
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in described
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_nodes)])
