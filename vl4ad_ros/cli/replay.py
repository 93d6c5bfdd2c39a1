"""`vl4ad replay`: a bag or a video onto live topics."""

from __future__ import annotations

import argparse
from pathlib import Path

from vl4ad_ros.io.errors import Vl4adError

HELP = "play a bag's or a video's images onto a live ROS topic, with their stamps and /clock"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("source", type=Path, metavar="BAG_OR_VIDEO", help="rosbag2 folder, .mcap, .db3, or a video")
    parser.add_argument("--topic", help="image topic of the bag; not needed where there is only one")
    parser.add_argument("--to", metavar="TOPIC", help="topic to publish on, instead of the bag's own")
    parser.add_argument("--rate", type=float, default=1.0, help="speed, 1 = as recorded")
    parser.add_argument("--clock", action="store_true", help="publish /clock from the stamps (for use_sim_time)")
    parser.add_argument("--loop", action="store_true", help="play again and again; the stamps go on growing")
    parser.add_argument("--restamp", action="store_true", help="stamp the images with the moment of sending")
    parser.add_argument("--subscribers", type=int, default=0, help="wait for so many subscribers of the images")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds to wait for them")
    parser.add_argument("--log", type=Path, help="write a JSON line per image: stamp_ns and sent_ns")


def run(args: argparse.Namespace) -> int:
    """Play."""
    from tqdm import tqdm

    try:
        from vl4ad_ros.nodes.player import Settings, play
    except ImportError as error:
        raise Vl4adError(
            f"rclpy is not here ({error}); source a ROS 2 installation, or: pip install 'vl4ad_ros[ros]'."
        ) from error
    if args.clock and args.restamp:
        raise Vl4adError("--clock tells the recording's time and --restamp the machine's: take one of them.")
    settings = Settings(
        args.source, args.topic, args.to, args.rate, args.clock, args.loop, args.restamp, args.subscribers,
        args.timeout, args.log,
    )  # fmt: skip
    sent = play(settings, lambda total: tqdm(total=total, unit="frame", desc="playing"))
    print(f"{sent} images sent")
    return 0
