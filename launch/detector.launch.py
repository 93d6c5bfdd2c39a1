"""Start the detector and the overlay: ros2 launch vl4ad_ros detector.launch.py image_topic:=/camera/image_raw."""

from __future__ import annotations

from pathlib import Path

from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

# This file lies in share/vl4ad_ros/launch, or in launch/ of the source tree.
DEFAULT_PARAMETERS = str(Path(__file__).resolve().parent.parent / "config" / "detector.yaml")

ARGUMENTS = (
    ("image_topic", "image", "Topic of the camera's sensor_msgs/Image."),
    ("camera_info_topic", "camera_info", "Topic of the camera's sensor_msgs/CameraInfo."),
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
    ("overlay", "true", "Start the overlay node, too; it works only while somebody looks."),
    ("namespace", "", "Namespace of both nodes."),
    ("log_level", "info", "Log level of both nodes."),
)


def generate_launch_description() -> LaunchDescription:
    """Describe the two nodes and the arguments."""

    def typed(name: str, value_type: type) -> ParameterValue:
        return ParameterValue(LaunchConfiguration(name), value_type=value_type)

    image_topic = LaunchConfiguration("image_topic")
    remappings = [
        ("image", image_topic),
        ("image/compressed", [image_topic, "/compressed"]),
        ("camera_info", LaunchConfiguration("camera_info_topic")),
    ]
    common = {"use_sim_time": typed("use_sim_time", bool), "compressed": typed("compressed", bool)}
    log_level = ["--ros-args", "--log-level", LaunchConfiguration("log_level")]
    detector = LifecycleNode(
        package="vl4ad_ros",
        executable="detector",
        name="detector",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        remappings=remappings,
        arguments=log_level,
        parameters=[
            LaunchConfiguration("params_file"),
            common,
            {
                "bundle": typed("bundle", str),
                "prompt_set": typed("prompt_set", str),
                "threshold": typed("threshold", float),
                "method": typed("method", str),
                "backend": typed("backend", str),
                "auto_build": typed("auto_build", bool),
                "autostart": typed("autostart", bool),
            },
        ],
    )
    overlay = Node(
        package="vl4ad_ros",
        executable="overlay",
        name="overlay",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        remappings=remappings,
        arguments=log_level,
        parameters=[common],
        condition=IfCondition(LaunchConfiguration("overlay")),
    )
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in ARGUMENTS
    ]
    return LaunchDescription([*arguments, detector, overlay])
