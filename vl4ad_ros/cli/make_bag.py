"""`vl4ad make-bag`: videos or pictures (with labels) to a bag, for replay, demo and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vl4ad_ros.cli.options import Rate, noted, report
from vl4ad_ros.io.bag_writer import IMAGE_TOPIC, LABEL_TOPIC, write_pictures
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.labels import read_label_values
from vl4ad_ros.io.media import PICTURES, VIDEOS, Video, find_inputs

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
