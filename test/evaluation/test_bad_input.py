"""What is damaged, missing or wrong costs itself and nothing else, and is said in one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from vl4ad_ros.cli.main import main
from vl4ad_ros.evaluation.datasets import DatasetSource
from vl4ad_ros.evaluation.layouts import folder_layout
from vl4ad_ros.evaluation.predictor import DetectorSpec
from vl4ad_ros.evaluation.run import EvaluationSettings, evaluate
from vl4ad_ros.io.bag_reader import BagReader
from vl4ad_ros.io.bag_recovery import readable_bag
from vl4ad_ros.io.bag_writer import BagWriter
from vl4ad_ros.io.images import array_fields
from vl4ad_ros.io.labels import LabelMapping

START_NS = 1_700_000_000_000_000_000
STEP_NS = 100_000_000
CAMERA, LABEL = "/camera/image_raw", "/labels_of_mine/front"
BIG = (256, 384)  # Three frames of this size fill a chunk of an MCAP file.
TOPICS = ["--image-topic", CAMERA, "--label-topic", LABEL]


def command(*arguments: str | Path) -> int:
    return main(["evaluate", *map(str, arguments)])


def result(folder: Path) -> Any:
    return json.loads((folder / "result.json").read_text())


def pictures(count: int, height: int = 24, width: int = 32) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(3)  # Noise, so that compressing makes nothing smaller.
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def write_bag(
    path: Path, count: int, spoil: Callable[[int, str, Any], None] | None = None, shape: tuple[int, int] = (24, 32)
) -> Path:
    """A bag of noise with a label per image; `spoil` gets frame, `image` or `label`, and the message."""
    with BagWriter(path) as bag:
        bag.add_topic(CAMERA, "sensor_msgs/msg/Image")
        bag.add_topic(LABEL, "sensor_msgs/msg/Image")
        for index, pixels in enumerate(pictures(count, *shape)):
            stamp = START_NS + index * STEP_NS
            labels = np.zeros(shape, np.uint8)
            labels[2:16, 2:16] = 1
            for topic, what, array, encoding in ((CAMERA, "image", pixels, "rgb8"), (LABEL, "label", labels, "mono8")):
                message = bag.image(array, encoding, stamp, "camera")
                if spoil is not None:
                    spoil(index, what, message)
                bag.write(topic, stamp, message)
    return path


def spoil_some(index: int, what: str, message: Any) -> None:
    if what == "label":
        if index == 5:
            message.encoding = "32FC1"
        return
    if index == 1:
        message.step = 10
    elif index == 3:
        message.encoding = "weird"
    elif index == 4:
        message.data = np.empty(0, np.uint8)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_unreadable_messages_cost_their_frames_alone(
    jobs: str, mock_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / "bag", 7, spoil_some)
    out = tmp_path / "out"
    options: list[str | Path] = ["--bundle", mock_bundle, "--prompt-set", "traffic_ood", "--jobs", jobs, "--out", out]
    assert command("bag", bag, *TOPICS, *options) == 0
    found = result(out)
    assert found["frames"]["evaluated"] == 4
    assert found["frames"]["labelled"] == 3
    images, labels = found["problems"]
    assert images.startswith("3 of 7 images cannot be read, their frames are left out (1700000000.100000000: A row")
    assert "its step is 10; 1700000000.300000000: Unknown encoding" in images
    assert labels.startswith("1 of 7 labels cannot be read, their frames count as unlabelled (1700000000.500000000: ")
    assert f"note: {images}" in capsys.readouterr().out


def test_where_nothing_is_left_the_exit_status_says_so(
    mock_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(index: int, what: str, message: Any) -> None:
        message.step = 10 if what == "image" else message.step

    bag = write_bag(tmp_path / "bag", 3, spoil)
    assert command("bag", bag, *TOPICS, "--bundle", mock_bundle, "--out", tmp_path / "out") == 2
    assert "none of the 3 messages on '/camera/image_raw' can be used" in capsys.readouterr().err
    some = write_bag(tmp_path / "some", 3, lambda i, what, message: spoil(i, what, message) if i < 2 else None)
    assert command("bag", some, *TOPICS, "--bundle", mock_bundle, "--limit", "2", "--out", tmp_path / "out") == 2
    assert "No frame can be evaluated. 2 of 2 images" in capsys.readouterr().err


# --- recordings that were cut off


def cut(file: Path, share: float) -> None:
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])


def whole_images(bag: Path) -> int:
    """Read the images that a bag has, each of which must be as it was written."""
    expected = pictures(8, *BIG)
    with BagReader(bag) as reader:
        images = list(reader.images(CAMERA))
    for image in images:
        assert np.array_equal(image.rgb(), expected[(image.stamp_ns - START_NS) // STEP_NS])
    return len(images)


def test_what_a_cut_recording_still_gives_is_evaluated(mock_bundle: Path, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", 8, shape=BIG)
    cut(bag / "bag.mcap", 0.9)
    path, lost = readable_bag(bag, tmp_path / "saved")
    assert whole_images(path) == 6
    assert lost is not None and "is cut off" in lost
    out = tmp_path / "out"
    assert command("bag", bag, *TOPICS, "--bundle", mock_bundle, "--out", out) == 0
    assert result(out)["frames"]["evaluated"] == 6
    assert "is cut off" in " ".join(result(out)["problems"])


def test_a_recording_that_was_cut_too_early_is_one_sentence(
    mock_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / "bag", 8, shape=BIG)
    cut(bag / "bag.mcap", 0.01)
    assert command("bag", bag, *TOPICS, "--bundle", mock_bundle, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert f"{bag} cannot be read, it is damaged or cut off" in said
    assert "No image of it is complete." in said


def write_sqlite(path: Path, count: int) -> Path:
    types = get_typestore(Stores.ROS2_HUMBLE)
    image_type = "sensor_msgs/msg/Image"
    with Writer(path, version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection(CAMERA, image_type, typestore=types)
        for index, pixels in enumerate(pictures(count, *BIG)):
            stamp = START_NS + index * STEP_NS
            time = types.types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
            header = types.types["std_msgs/msg/Header"](stamp=time, frame_id="c")
            message = types.types[image_type](header=header, **array_fields(pixels, "rgb8"))
            writer.write(connection, stamp, types.serialize_cdr(message, image_type))
    return path


def test_a_database_that_was_cut_names_the_tool(
    mock_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_sqlite(tmp_path / "old", 8)
    cut(next(bag.glob("*.db3")), 0.6)
    assert command("bag", bag, "--bundle", mock_bundle, "--out", tmp_path / "out") == 2
    assert ".recover" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.mcap"))


def split_bag(folder: Path) -> Path:
    """A recording in two files without metadata.yaml, as a recorder that was killed leaves it."""
    folder.mkdir()
    whole = write_bag(folder.parent / "whole", 8, shape=BIG)
    for part in range(2):
        with BagReader(whole) as reader, BagWriter(folder / "x") as writer:
            writer.add_topic(CAMERA, "sensor_msgs/msg/Image")
            for index, (topic, log_ns, data) in enumerate(reader.raw([CAMERA])):
                if index // 4 == part:
                    writer.write_raw(topic, log_ns, data)
        (folder / "x" / "x.mcap").replace(folder / f"drive_{part}.mcap")
        shutil.rmtree(folder / "x")
    return folder


def test_a_split_recording_without_metadata_is_read_as_one(tmp_path: Path) -> None:
    bag = split_bag(tmp_path / "drive")
    assert readable_bag(bag, tmp_path / "out") == (bag, None)
    assert whole_images(bag) == 8
    (bag / "other.mcap").write_bytes((bag / "drive_0.mcap").read_bytes())
    with pytest.raises(Exception, match="is no bag"):  # Not of one recording.
        BagReader(bag)


def test_the_last_file_of_a_split_recording_is_saved(tmp_path: Path) -> None:
    bag = split_bag(tmp_path / "drive")
    cut(bag / "drive_1.mcap", 0.9)
    path, lost = readable_bag(bag, tmp_path / "out")
    assert whole_images(path) == 4
    assert lost is not None and "images of drive_1.mcap)" in lost and "drive_0" not in lost


def test_whole_recordings_without_their_metadata_are_not_called_cut_off(tmp_path: Path) -> None:
    for name, write in (
        ("new", lambda path: write_bag(path, 8, shape=BIG)),
        ("old", lambda p: write_sqlite(p, 8)),
    ):
        bag = write(tmp_path / name)
        (bag / "metadata.yaml").unlink()
        assert readable_bag(bag, tmp_path / "out") == (bag, None)
        assert whole_images(bag) == 8
        (bag / "metadata.yaml").write_text("garbage: [")
        path, lost = readable_bag(bag, tmp_path / "out")
        assert whole_images(path) == 8
        assert lost is not None and "was read without its metadata.yaml" in lost and "what could be read" not in lost


# --- options and targets


def test_targets_are_checked_before_the_work(
    folder: Path, mock_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    base: list[str | Path] = ["dataset", "folder", folder, "--bundle", mock_bundle]
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert command(*base, "--out", out) == 2
        assert "file is no folder that can be written" in capsys.readouterr().err
    assert command(*base, "--out", tmp_path / "out", "--mcap", tmp_path) == 2
    assert "exists already; --mcap writes a new bag" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "out").exists()


@pytest.fixture
def work(folder: Path, mock_bundle: Path) -> tuple[DatasetSource, DetectorSpec]:
    source = DatasetSource(folder, folder_layout(LabelMapping(frozenset({1})), "obstacle"))
    return source, DetectorSpec(str(mock_bundle), prompt_set="traffic_ood", threads=1)


def test_unreadable_files_of_a_data_set_are_listed(work: tuple[DatasetSource, DetectorSpec], folder: Path) -> None:
    source, spec = work
    (folder / "images" / "03.png").write_bytes(b"no picture")
    (folder / "labels" / "05.png").write_bytes(b"no picture")
    found = evaluate(source, spec, EvaluationSettings(0.5))
    assert sorted(found.records) == [0, 1, 2, 4, 6, 7, 8, 9]
    images, labels = source.problems
    assert images.startswith("1 of 10 images cannot be read, their frames are left out (03: ")
    assert labels.startswith("1 of 10 labels cannot be read, their frames are left out (05: ")
    everything = DatasetSource(folder, source.layout, with_unlabelled=True)
    assert len(list(everything.frames(range(10)))) == 9  # A submission needs no label.


def test_damaged_results_are_one_sentence(
    folder: Path, mock_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    options: list[str | Path] = ["--bundle", mock_bundle, "--prompt-set", "traffic_ood", "--limit", "3"]
    assert command("dataset", "folder", folder, *options, "--out", good) == 0

    def refused(name: str, content: bytes) -> str:
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(good, bad)
        (bad / name).write_bytes(content)
        capsys.readouterr()
        assert command("compare", good, bad, "--samples", "100") == 2
        return capsys.readouterr().err

    stored = (good / "histograms.npz").read_bytes()
    assert "histograms.npz: cannot be read" in refused("histograms.npz", stored[:100])
    assert "histograms.npz: cannot be read" in refused("histograms.npz", b"")
    assert "frames.jsonl, line 1" in refused("frames.jsonl", b"{}\n{}\n{}\n")
    assert "frames.jsonl, line 2" in refused("frames.jsonl", b'{"name": "a"}\n{"na')
    assert "has no frame with ground truth" in refused("frames.jsonl", b'{"name": "a"}\n' * 3)
    summary = result(good)
    del summary["source"]
    assert "lacks 'source'" in refused("result.json", json.dumps(summary).encode())
