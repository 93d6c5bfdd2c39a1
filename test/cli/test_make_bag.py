"""Videos and pictures become bags that every other command takes."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from run_cli import Cli

from vl4ad_ros.cli.main import main
from vl4ad_ros.io.bag_reader import BagReader


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures of the grey levels 0, 60, 120; the first and the last have labels."""
    for name in ("pictures", "labels"):
        (tmp_path / name).mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"pictures/{number}.png"), np.full((64, 96, 3), 60 * number, np.uint8))
    label = np.zeros((64, 96), np.uint8)
    label[16:48, 16:48] = 1
    for number in (0, 2):
        cv2.imwrite(str(tmp_path / f"labels/{number}.png"), label)
    return tmp_path / "pictures"


def test_pictures_with_labels_can_be_evaluated_as_a_drive(
    pictures: Path, mock_bundle: Path, tmp_path: Path, cli: Cli
) -> None:
    bag = tmp_path / "bag"
    said = cli("make-bag", pictures, "--labels", tmp_path / "labels", "--rate", "4", "--out", bag)
    assert "3 images at 4/s on /camera/image_raw, 2 labels on /camera/label" in said
    assert "1 of 3 pictures have no label" in said
    with BagReader(bag) as reader:
        frames = list(reader.images("/camera/image_raw"))
        labels = list(reader.images("/camera/label"))
    assert [int(frame.rgb()[0, 0, 0]) for frame in frames] == [0, 60, 120]
    assert [b.stamp_ns - a.stamp_ns for a, b in pairwise(frames)] == [250_000_000] * 2
    assert [label.stamp_ns for label in labels] == [frames[0].stamp_ns, frames[2].stamp_ns]
    assert labels[0].array()[16:18, 15:17].tolist() == [[0, 1], [0, 1]]
    options = ["--label-topic", "/camera/label", "--bundle", str(mock_bundle), "--out", str(tmp_path / "out")]
    cli("evaluate", "bag", bag, *options)
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert result["source"]["frames"] == 3
    assert result["pixel"]["positives"] == 2 * 32 * 32
    assert "1 of 3 frames have no label" in result["problems"][0]


def test_a_video_keeps_its_rate_and_can_be_written_as_jpeg(tmp_path: Path) -> None:
    video = cv2.VideoWriter(str(tmp_path / "drive.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 20, (96, 64))
    for level in (40, 90, 140, 190):
        video.write(np.full((64, 96, 3), level, np.uint8))
    video.release()
    assert main(["make-bag", str(tmp_path / "drive.avi"), "--jpeg", "--out", str(tmp_path / "bag")]) == 0
    with BagReader(tmp_path / "bag") as reader:
        assert reader.topics() == {"/camera/image_raw/compressed": "sensor_msgs/msg/CompressedImage"}
        frames = list(reader.images(reader.image_topic()))
    assert frames[1].stamp_ns - frames[0].stamp_ns == 50_000_000
    assert [abs(int(frame.rgb().mean()) - level) < 6 for frame, level in zip(frames, (40, 90, 140, 190), strict=True)]


def test_mistakes_are_one_sentence(pictures: Path, tmp_path: Path, cli: Cli) -> None:
    out = ["--out", str(tmp_path / "bag")]
    cv2.imwrite(str(tmp_path / "labels/1.png"), np.zeros((5, 5), np.uint8))
    for arguments, sentence in (
        ([str(tmp_path / "none.mp4")], "There is no file or folder"),
        ([str(pictures), "--rate", "0"], "--rate"),
        ([str(pictures), "--labels", str(tmp_path / "nowhere")], "There is no folder"),
        ([str(pictures), "--labels", str(tmp_path / "labels")], "1: its label is (5, 5), the picture (64, 96)"),
    ):
        assert sentence in cli.error("make-bag", *arguments, *out)
        assert not (tmp_path / "bag/metadata.yaml").exists()
    # What is no bag says how to make one.
    assert "'vl4ad make-bag' makes one of videos and pictures" in cli.error("evaluate", "bag", pictures, *out)
    # Film goes straight into replay; a folder of pictures is told the way.
    pytest.importorskip("rclpy", reason="no rclpy here")
    assert "'vl4ad make-bag' makes one of videos and pictures" in cli.error("replay", pictures)


def test_a_drive_is_written_as_asked(tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "bag"
    options = ["--seed", "3", "--frames", "2", "--size", "96x64", "--rate", "5", "--jobs", "1"]
    assert "2 frames 96x64" in cli("sample-drive", "--out", out, *options)
    with BagReader(out) as bag:
        first, second = bag.images(bag.image_topic())
    assert first.rgb().shape == (64, 96, 3)
    assert second.stamp_ns - first.stamp_ns == 200_000_000
