"""Start the detector and the overlay: ros2 launch vl4ad_ros detector.launch.py image_topic:=/camera/image_raw.

Several cameras on one engine: cameras:=front,rear image_topic:=image_raw hears front/image_raw and rear/image_raw, and
starts one overlay for each.
"""

from __future__ import annotations

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import Action, LaunchContext, LaunchDescription

# This file lies in share/vl4ad_ros/launch, or in launch/ of the source tree.
DEFAULT_PARAMETERS = str(Path(__file__).resolve().parent.parent / "config" / "detector.yaml")

ARGUMENTS = (
    ("image_topic", "image", "Topic of the camera's sensor_msgs/Image."),
    ("camera_info_topic", "camera_info", "Topic of the camera's sensor_msgs/CameraInfo."),
    (
        "cameras",
        "",
        "Names of several cameras, with commas between; the two topics above are then relative to each name. Empty: "
        "the single camera, or those of params_file.",
    ),
    ("compressed", "false", "Subscribe to <image_topic>/compressed instead."),
    ("bundle", "vl4ad-small", "Model bundle: the name of an installed one, or a folder."),
    ("prompt_set", "", "Prompt set of the bundle, or a .safetensors file; empty: the bundle's own."),
    ("threshold", "-1.0", "Uncertainty at and above which a pixel is an anomaly; below 0: the bundle's own."),
    ("method", "vl4ad", "Anomaly method: vl4ad, random_word or both."),
    ("backend", "onnxruntime", "Inference backend."),
    ("auto_build", "false", "Build a missing or stale TensorRT engine at start, which takes minutes."),
    ("params_file", DEFAULT_PARAMETERS, "YAML file with further parameters; the arguments here win."),
    ("use_sim_time", "false", "Take the time from /clock (bags)."),
    ("autostart", "true", "Configure and activate the detector; false leaves that to a lifecycle manager."),
    ("overlay", "true", "Start the overlay node, too (one per camera); it works only while somebody looks."),
    ("namespace", "", "Namespace of the nodes."),
    ("log_level", "info", "Log level of the nodes."),
)


def _nodes(context: LaunchContext) -> list[Action]:
    """Describe the detector, and an overlay for each camera."""

    def typed(name: str, value_type: type) -> ParameterValue:
        return ParameterValue(LaunchConfiguration(name), value_type=value_type)

    def text(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    cameras = [name.strip() for name in text("cameras").split(",") if name.strip()]
    prefixes = [f"{name}/" for name in cameras] or [""]
    remappings = [
        remapping
        for prefix in prefixes
        for remapping in (
            (f"{prefix}image", prefix + text("image_topic")),
            (f"{prefix}image/compressed", f"{prefix}{text('image_topic')}/compressed"),
            (f"{prefix}camera_info", prefix + text("camera_info_topic")),
        )
    ]
    shared = {
        "package": "vl4ad_ros",
        "namespace": LaunchConfiguration("namespace"),
        "output": "screen",
        "remappings": remappings,
        "arguments": ["--ros-args", "--log-level", LaunchConfiguration("log_level")],
    }
    common = {"use_sim_time": typed("use_sim_time", bool), "compressed": typed("compressed", bool)}
    own = {
        "bundle": typed("bundle", str),
        "prompt_set": typed("prompt_set", str),
        "threshold": typed("threshold", float),
        "method": typed("method", str),
        "backend": typed("backend", str),
        "auto_build": typed("auto_build", bool),
        "autostart": typed("autostart", bool),
    }
    detector = LifecycleNode(
        executable="detector",
        name="detector",
        parameters=[LaunchConfiguration("params_file"), common, own, *([{"cameras": cameras}] if cameras else [])],
        **shared,
    )
    overlays = [
        Node(
            executable="overlay",
            name=f"overlay_{camera}" if camera else "overlay",
            parameters=[common, {"camera": camera}],
            condition=IfCondition(LaunchConfiguration("overlay")),
            **shared,
        )
        for camera in cameras or [""]
    ]
    return [detector, *overlays]


def generate_launch_description() -> LaunchDescription:
    """Describe the nodes and the arguments."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_nodes)])
