"""`vl4ad make-bag`: videos or pictures (with labels) to a bag, for replay, demo and evaluation."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vl4ad_ros.io.errors import Vl4adError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HELP = "write videos, pictures or folders of pictures as a rosbag2 in MCAP, to replay or evaluate them as a drive"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("inputs", type=Path, nargs="+", metavar="INPUT", help="videos, pictures, or folders of them")
    parser.add_argument("--out", type=Path, required=True, help="folder of the new bag")
    parser.add_argument("--rate", type=float, help="frames per second (default: the video's; of pictures 10)")
    parser.add_argument("--labels", type=Path, help="folder of label images with the pictures' file names")
    parser.add_argument("--jpeg", action="store_true", help="write JPEG (CompressedImage): about a tenth of the size")


def run(args: argparse.Namespace) -> int:
    """Write the bag."""
    from tqdm import tqdm

    from vl4ad_ros.io.bag_writer import IMAGE_TOPIC, LABEL_TOPIC, write_pictures
    from vl4ad_ros.io.labels import read_label_values
    from vl4ad_ros.io.media import VIDEOS, Video, find_inputs

    inputs = find_inputs(args.inputs)
    videos = [entry.path for entry in inputs if entry.path.suffix.lower() in VIDEOS]
    if args.labels is not None and videos:
        raise Vl4adError(f"--labels belongs to pictures; {videos[0]} is a video.")
    rate = args.rate
    if rate is None:
        rate = 10.0
        if videos:
            with Video(videos[0]) as video:
                rate = video.rate
    label_files = _label_files(args.labels)

    def label_of(name: str) -> NDArray[np.int32] | None:
        return read_label_values(label_files[name]) if name in label_files else None

    def pictures() -> Iterator[tuple[str, NDArray[np.uint8]]]:
        for entry in inputs:
            for picture in entry.pictures():
                yield picture.stem, picture.image

    with tqdm(total=sum(entry.count for entry in inputs), unit="frame", desc="writing") as bar:
        images, labels = write_pictures(
            args.out, pictures(), rate, label_of if args.labels else None, args.jpeg, bar.update
        )
    topic = f"{IMAGE_TOPIC}/compressed" if args.jpeg else IMAGE_TOPIC
    print(
        f"{args.out}: {images} images at {rate:g}/s on {topic}" + (f", {labels} labels on {LABEL_TOPIC}" * bool(labels))
    )
    if args.labels is not None and labels < images:
        print(f"note: {images - labels} of {images} pictures have no label of their name in {args.labels}")
    return 0


def _label_files(folder: Path | None) -> dict[str, Path]:
    """Return the label images of a folder by the name that they share with their picture."""
    from vl4ad_ros.io.media import PICTURES

    if folder is None:
        return {}
    if not folder.is_dir():
        raise Vl4adError(f"There is no folder {folder}.")
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURES}
