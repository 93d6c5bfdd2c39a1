"""The Foxglove layout and the RViz configuration name what the nodes publish, and what the two programs know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

CONFIG = Path(__file__).resolve().parents[2] / "config"
# As detector.launch.py image_topic:=/camera/image_raw has them, besides the detector's own.
CAMERA = {"/camera/image_raw": "sensor_msgs/msg/Image", "/camera/camera_info": "sensor_msgs/msg/CameraInfo"}
OVERLAY = {"/overlay/image": "sensor_msgs/msg/Image", "/overlay/image/compressed": "sensor_msgs/msg/CompressedImage"}
# Types of panels in Foxglove, and the fields of their settings that name a topic with the types that they show.
IMAGES = {"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"}
PANELS = {"Image", "RawMessages", "Plot", "DiagnosticSummary", "Parameters"}
# Classes of RViz 2: package rviz_default_plugins (plugins_description.xml) and rviz_common.
RVIZ = {
    "rviz_common/Displays", "rviz_common/Time", "rviz_default_plugins/Image", "rviz_default_plugins/MoveCamera",
    "rviz_default_plugins/TF", "rviz_default_plugins/Orbit",
}  # fmt: skip


def published() -> dict[str, str]:
    """Every topic that a viewer can show, and its type."""
    topics = pytest.importorskip("vl4ad_ros.nodes.topics").TOPICS
    own = {topic.name.replace("~", "/detector"): topic.types[0] for topic in topics if topic.direction == "out"}
    return {**CAMERA, **OVERLAY, **own}


def layout() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((CONFIG / "foxglove" / "vl4ad.json").read_text(encoding="utf-8"))
    return content


def leaves(node: Any) -> list[str]:
    """Panels of a layout's tree; fails where a node is no split of two."""
    if isinstance(node, str):
        return [node]
    assert node["direction"] in ("row", "column")
    assert 0 < node.get("splitPercentage", 50) < 100
    return leaves(node["first"]) + leaves(node["second"])


def test_each_panel_of_the_layout_is_configured_once_and_of_a_known_type() -> None:
    content = layout()
    assert set(content) == {"configById", "globalVariables", "userNodes", "playbackConfig", "layout"}
    panels = leaves(content["layout"])
    assert len(set(panels)) == len(panels)
    assert set(panels) == set(content["configById"])
    assert {panel.split("!")[0] for panel in panels} <= PANELS


def test_the_layout_names_topics_that_are_published_with_a_type_that_its_panels_show() -> None:
    topics = published()
    for panel, settings in layout()["configById"].items():
        kind = panel.split("!")[0]
        if kind == "Image":
            mode = settings["imageMode"]
            assert topics[mode["imageTopic"]] in IMAGES
            if "calibrationTopic" in mode:
                assert topics[mode["calibrationTopic"]] == "sensor_msgs/msg/CameraInfo"
        elif kind == "RawMessages":
            assert settings["topicPath"] in topics
        elif kind == "Plot":
            for path in settings["paths"]:
                topic, _, member = path["value"].partition(".")
                assert (topics[topic], member) == ("std_msgs/msg/Float64", "data")
        elif kind == "DiagnosticSummary":
            assert topics[settings["topicToRender"]] == "diagnostic_msgs/msg/DiagnosticArray"


def test_the_rviz_configuration_names_classes_of_rviz_and_topics_that_are_published() -> None:
    content = yaml.safe_load((CONFIG / "rviz" / "vl4ad.rviz").read_text(encoding="utf-8"))

    def classes(node: Any) -> set[str]:
        if isinstance(node, list):
            return set().union(*map(classes, node)) if node else set()
        if not isinstance(node, dict):
            return set()
        own = {node["Class"]} if node.get("Class") else set()
        return own.union(*(classes(value) for value in node.values()))

    assert classes(content) <= RVIZ
    topics = published()
    displays = content["Visualization Manager"]["Displays"]
    assert {display["Topic"]["Value"] for display in displays} >= {"/detector/uncertainty", "/detector/anomaly_mask"}
    for display in displays:
        assert topics[display["Topic"]["Value"]] == "sensor_msgs/msg/Image"
        own = display["Topic"]["Value"] not in CAMERA
        # A reliable reader hears nothing from a best-effort camera; the nodes' outputs are reliable.
        assert display["Topic"]["Reliability Policy"] == ("Reliable" if own else "Best Effort")
