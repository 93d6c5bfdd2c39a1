"""Bags: written, read, damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vl4ad_ros.io.bag_reader import BagReader
from vl4ad_ros.io.bag_writer import BagWriter
from vl4ad_ros.io.errors import Vl4adError

IMAGE = "sensor_msgs/msg/Image"
START = 1_700_000_000_123_456_789
PIXELS = np.random.default_rng(1).integers(0, 256, (4, 8, 12, 3), dtype=np.uint8)


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    with BagWriter(tmp_path / "drive") as writer:
        writer.add_topic("/camera/image_raw", IMAGE)
        writer.add_topic("/camera/label", IMAGE)
        writer.add_topic("/camera/camera_info", "sensor_msgs/msg/CameraInfo")
        for index, pixels in enumerate(PIXELS):
            stamp = START + index * 100_000_001
            writer.write("/camera/image_raw", stamp + 5, writer.image(pixels, "rgb8", stamp, "camera"))
            writer.write("/camera/label", stamp + 5, writer.image(pixels[..., 0] // 128, "mono8", stamp, "camera"))
            writer.write("/camera/camera_info", stamp + 5, writer.camera_info(12, 8, 9.0, stamp, "camera"))
    return tmp_path / "drive"


def test_images_come_back_with_their_stamps(bag: Path) -> None:
    with BagReader(bag) as reader:
        assert reader.image_topic() == "/camera/image_raw"  # Labels are no camera.
        images = list(reader.images("/camera/image_raw"))
        labels = list(reader.images("/camera/label"))
        info = next(reader.raw(["/camera/camera_info"]))
        camera = reader.deserialize(info[0], info[2])
    assert [image.stamp_ns for image in images] == [START + i * 100_000_001 for i in range(4)]
    assert {(image.frame_id, image.log_ns - image.stamp_ns) for image in images} == {("camera", 5)}
    assert np.array_equal(np.stack([image.rgb() for image in images]), PIXELS)
    assert np.array_equal(labels[3].array(), PIXELS[3, ..., 0] // 128)
    assert (camera.k[0], camera.k[2], camera.k[5]) == (9.0, 5.5, 3.5)


def test_a_single_mcap_file_is_a_bag_too(bag: Path) -> None:
    with BagReader(bag / "drive.mcap") as reader:
        assert reader.count("/camera/image_raw") == 4
        assert np.array_equal(next(reader.images("/camera/image_raw")).rgb(), PIXELS[0])


def test_a_camera_topic_is_named_where_it_is_not_clear(bag: Path, tmp_path: Path) -> None:
    with BagReader(bag) as reader:
        for name in ("/front", "/camera/camera_info"):
            with pytest.raises(Vl4adError, match=f"{name}.* image topics are"):
                reader.image_topic(name)
    with BagWriter(tmp_path / "two") as writer:
        for topic in ("/left", "/right"):
            writer.add_topic(topic, IMAGE)
            writer.write(topic, 1, writer.image(PIXELS[0], "rgb8", 1, ""))
    with BagReader(tmp_path / "two") as reader, pytest.raises(Vl4adError, match="name one"):
        reader.image_topic()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.98])
def test_a_cut_off_bag_is_one_sentence(bag: Path, share: float) -> None:
    storage = bag / "drive.mcap"
    storage.write_bytes(storage.read_bytes()[: int(storage.stat().st_size * share)])
    with pytest.raises(Vl4adError, match="damaged or cut off"), BagReader(bag) as reader:
        list(reader.images(reader.image_topic("/camera/image_raw")))


def test_a_flipped_byte_is_an_error_not_a_picture(bag: Path) -> None:
    storage = bag / "drive.mcap"
    content = bytearray(storage.read_bytes())
    content[len(content) // 3] ^= 0xFF  # Inside the compressed chunk.
    storage.write_bytes(content)
    with pytest.raises(Vl4adError, match="damaged or cut off"), BagReader(bag) as reader:
        list(reader.images("/camera/image_raw"))


def test_paths_that_are_no_bag_and_an_existing_folder(bag: Path, tmp_path: Path) -> None:
    with pytest.raises(Vl4adError, match="no bag"):
        BagReader(tmp_path / "none")
    with pytest.raises(Vl4adError, match="no bag"):
        BagReader(tmp_path)
    with pytest.raises(Vl4adError, match="exists"):
        BagWriter(bag)
