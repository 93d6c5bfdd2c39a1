"""A small drive whose anomalies the mock bundle sees: blue squares on a road of red and green."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vl4ad_ros.io.bag_writer import BagWriter

START_NS = 1_700_000_000_000_000_000
STEP_NS = 100_000_000
HEIGHT, WIDTH = 64, 96


def scene(index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Image and labels: from frame 2 on a blue square that grows; every fourth frame also a harmless blue patch."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:32] = (0, 200, 0)
    image[32:] = (200, 0, 0)
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[:4] = 255
    if index >= 2:
        size = 12 + 2 * index
        image[36 : 36 + size, 40 : 40 + size] = (0, 0, 220)
        labels[36 : 36 + size, 40 : 40 + size] = 1
    if index % 4 == 3:
        image[8:24, 4:20] = (40, 0, 200)
    return image, labels


def write_drive(path: Path, frames: int = 10, compressed: bool = False, labelled: bool = True) -> Path:
    with BagWriter(path) as bag:
        kind = "sensor_msgs/msg/CompressedImage" if compressed else "sensor_msgs/msg/Image"
        bag.add_topic("/camera/image_raw", kind)
        if labelled:
            bag.add_topic("/camera/label", "sensor_msgs/msg/Image")
        for index in range(frames):
            image, labels = scene(index)
            stamp = START_NS + index * STEP_NS
            if compressed:
                data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].reshape(-1)
                message = bag.message(kind, header=bag.header(stamp, "camera"), format="png", data=data)
            else:
                message = bag.image(image, "rgb8", stamp, "camera")
            bag.write("/camera/image_raw", stamp, message)
            if labelled:
                bag.write("/camera/label", stamp, bag.image(labels, "mono8", stamp, "camera"))
    return path


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """The drive as a bag of ten frames."""
    return write_drive(tmp_path / "drive")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The drive's frames as a folder of images and labels."""
    root = tmp_path / "folder"
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for index in range(10):
        image, labels = scene(index)
        cv2.imwrite(str(root / "images" / f"{index:02d}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        cv2.imwrite(str(root / "labels" / f"{index:02d}.png"), labels)
    return root
