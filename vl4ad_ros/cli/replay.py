"""`vl4ad replay`: a bag or a video onto live topics."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from vl4ad_ros.cli.options import Rate, Whole
from vl4ad_ros.io.errors import Vl4adError


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
