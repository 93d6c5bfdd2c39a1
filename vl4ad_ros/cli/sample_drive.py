"""`vl4ad sample-drive`: write a procedural drive with anomalies and exact ground truth as a bag."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from vl4ad_ros.io.errors import Vl4adError

HELP = "write a procedural drive with anomalies and exact ground truth as a rosbag2 in MCAP"


def parse_size(text: str) -> tuple[int, int]:
    """Return (width, height) of a text like 960x540.

    Raises:
        Vl4adError: If it is not of that form.
    """
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise Vl4adError(f"A size is WIDTHxHEIGHT, e.g. 960x540, got '{text}'.")
    return int(match[1]), int(match[2])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--out", type=Path, required=True, help="folder of the new bag")
    parser.add_argument("--seed", type=int, default=0, help="everything in the drive follows from it")
    parser.add_argument("--frames", type=int, default=120, help="number of frames")
    parser.add_argument("--size", default="960x540", help="WIDTHxHEIGHT of the camera")
    parser.add_argument("--rate", type=float, default=10.0, help="frames per second")
    parser.add_argument("--jobs", type=int, default=0, help="processes that draw; 0 takes one per core")


def run(args: argparse.Namespace) -> int:
    """Write the bag."""
    write_drive(args.out, args.seed, args.frames, parse_size(args.size), args.rate, args.jobs)
    return 0


def write_drive(out: Path, seed: int, frames: int, size: tuple[int, int], rate: float, jobs: int = 0) -> None:
    """Draw and write a drive with a progress bar."""
    from tqdm import tqdm

    from vl4ad_ros.drive.record import IMAGE_TOPIC, LABEL_TOPIC, record
    from vl4ad_ros.drive.render import Drive

    if jobs < 0:
        raise Vl4adError(f"--jobs must be 0 or more, got {jobs}.")
    drive = Drive(seed, frames, *size, rate)
    with tqdm(total=frames, unit="frame", desc="drawing") as bar:
        record(drive, out, jobs or max(1, min(os.cpu_count() or 1, frames // 8)), lambda _: bar.update())
    print(
        f"{out}: {frames} frames {size[0]}x{size[1]}, {frames / rate:.1f} s at {rate:g}/s, seed {seed}, weather "
        f"{', '.join(drive.weathers)}; images on {IMAGE_TOPIC}, ground truth on {LABEL_TOPIC} "
        "(0 normal, 1 anomaly, 255 void)"
    )
