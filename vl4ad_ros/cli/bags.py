"""`vl4ad replay`, `sample-drive` and `make-bag`: bags onto live topics, and bags of drives, videos and pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vl4ad_ros.cli.options import Rate, Whole, noted, parse_size, progress_bar, report
from vl4ad_ros.drive.record import ODOMETRY_TOPIC, record
from vl4ad_ros.drive.render import Drive
from vl4ad_ros.drive.road import EYE, camera_pitch
from vl4ad_ros.io.bag_writer import IMAGE_TOPIC, LABEL_TOPIC, write_pictures
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.labels import read_label_values
from vl4ad_ros.io.media import PICTURES, VIDEOS, Video, find_inputs


def replay(
    bag_or_video: Path,
    /,
    *,
    topic: str | None = None,
    to: str | None = None,
    rate: Rate = 1.0,
    clock: bool = False,
    loop: bool = False,
    restamp: bool = False,
    subscribers: Whole = 0,
    timeout: float = 30.0,
    log: Path | None = None,
) -> None:
    """Play a bag's or a video's images onto a live ROS topic, with their stamps and /clock.

    Args:
        bag_or_video: Rosbag2 folder, .mcap, .db3, or a video.
        topic: Image topic of the bag; not needed where there is only one.
        to: Topic to publish on, instead of the bag's own.
        rate: Speed, 1 = as recorded.
        clock: Publish /clock from the stamps (for use_sim_time).
        loop: Play again and again; the stamps go on growing.
        restamp: Stamp the images with the moment of sending.
        subscribers: Wait for so many subscribers of the images.
        timeout: Seconds to wait for them.
        log: Write a JSON line per image: stamp_ns and sent_ns.
    """
    try:
        from vl4ad_ros.nodes.player import Settings, play
    except ImportError as error:
        raise Vl4adError(
            f"rclpy cannot be imported ({error}); source a ROS 2 installation, or: pip install 'vl4ad_ros[ros]'."
        ) from error
    if clock and restamp:
        raise Vl4adError("--clock tells the recording's time and --restamp the machine's: take one of them.")
    settings = Settings(bag_or_video, topic, to, rate, clock, loop, restamp, subscribers, timeout, log)
    sent = play(settings, lambda total: tqdm(total=total, unit="frame", desc="playing"))
    print(f"{sent} images sent")


def sample_drive(
    *, out: Path, seed: Whole = 0, frames: Whole = 120, size: str = "960x540", rate: Rate = 10.0, jobs: Whole = 0
) -> None:
    """Write a procedural drive with anomalies and exact ground truth as a rosbag2 in MCAP.

    Args:
        out: Folder of the new bag.
        seed: Everything in the drive follows from it.
        frames: Number of frames.
        size: WIDTHxHEIGHT of the camera.
        rate: Frames per second.
        jobs: Processes that draw; 0 takes one per core.
    """
    if jobs < 0:
        raise Vl4adError(f"--jobs must be 0 or more, got {jobs}.")
    width, height = parse_size(size, "WIDTHxHEIGHT")
    drive = Drive(seed, frames, width, height, rate)
    show = progress_bar("drawing")
    record(drive, out, jobs or max(1, min(os.cpu_count() or 1, frames // 8)), lambda done: show(done, frames))
    print(
        f"{out}: {frames} frames {width}x{height}, {frames / rate:.1f} s at {rate:g}/s, seed {seed}, weather "
        f"{', '.join(drive.weathers)}; images on {IMAGE_TOPIC}, ground truth on {LABEL_TOPIC} "
        f"(0 normal, 1 anomaly, 255 void), odometry on {ODOMETRY_TOPIC}; the camera is {EYE:g} m above the ground and "
        f"pitched by {camera_pitch(width, height):.4f}"
    )


PICTURE_RATE = 10.0


def make_bag(
    inputs: list[Path],
    /,
    *,
    out: Path,
    rate: Rate | None = None,
    labels: Path | None = None,
    jpeg: bool = False,
) -> None:
    """Write videos, pictures or folders of pictures as a rosbag2 in MCAP, to replay or evaluate them as a drive.

    Args:
        inputs: Videos, pictures, or folders of them.
        out: Folder of the new bag.
        rate: Frames per second (default: the video's; of pictures 10).
        labels: Folder of label images with the pictures' file names.
        jpeg: Write JPEG (CompressedImage): about a tenth of the size.
    """
    found = find_inputs(inputs)
    videos = [entry.path for entry in found if entry.path.suffix.lower() in VIDEOS]
    if labels is not None and videos:
        raise Vl4adError(f"--labels belongs to pictures; {videos[0]} is a video.")
    if rate is None:
        rate = _video_rate(videos)
    label_files = {} if labels is None else _label_files(labels)

    def label_of(name: str) -> NDArray[np.int32] | None:
        return read_label_values(label_files[name]) if name in label_files else None

    faults: list[str] = []

    def pictures() -> Iterator[tuple[str, NDArray[np.uint8]]]:
        some = False
        for entry in found:
            with noted(faults, entry.path):
                for picture in entry.pictures():
                    some = True
                    yield picture.stem, picture.image
        if not some:
            report(faults, len(found))

    with tqdm(total=sum(entry.count for entry in found), unit="frame", desc="writing") as bar:
        images, labelled = write_pictures(out, pictures(), rate, label_of if labels else None, jpeg, bar.update)
    topic = f"{IMAGE_TOPIC}/compressed" if jpeg else IMAGE_TOPIC
    print(
        f"{out}: {images} images at {rate:g}/s on {topic}" + (f", {labelled} labels on {LABEL_TOPIC}" * bool(labelled))
    )
    if labels is not None and labelled < images:
        print(f"note: {images - labelled} of {images} pictures have no label of their name in {labels}")
    report(faults, len(found))


def _video_rate(videos: list[Path]) -> float:
    """Return the rate of the first video that can be opened, or that of pictures."""
    for path in videos:
        with suppress(Vl4adError), Video(path) as video:
            return video.rate
    return PICTURE_RATE


def _label_files(folder: Path) -> dict[str, Path]:
    """Return the label images of a folder by the name that they share with their picture."""
    if not folder.is_dir():
        raise Vl4adError(f"There is no folder {folder}.")
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURES}
