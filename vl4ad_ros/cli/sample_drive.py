"""`vl4ad sample-drive`: write a procedural drive with anomalies and exact ground truth as a bag."""

from __future__ import annotations

import os
from pathlib import Path

from vl4ad_ros.cli.options import Rate, Whole, parse_size, progress_bar
from vl4ad_ros.drive.camera import EYE, camera_pitch
from vl4ad_ros.drive.record import IMAGE_TOPIC, LABEL_TOPIC, ODOMETRY_TOPIC, record
from vl4ad_ros.drive.render import Drive
from vl4ad_ros.io.errors import Vl4adError


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
