"""A bag from pictures or videos, so that whatever plays or evaluates bags takes them as well."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.bag_writer import BagWriter
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.media import encode_jpeg

IMAGE_TOPIC = "/camera/image_raw"
LABEL_TOPIC = "/camera/label"
FRAME_ID = "camera"
# A fixed date, so that the same pictures make the same bag: 2026-01-01 00:00:00 UTC.
START_NS = 1_767_225_600_000_000_000
JPEG_QUALITY = 95

LabelOf = Callable[[str], NDArray[np.int32] | None]


def write_pictures(
    bag_path: Path,
    pictures: Iterable[tuple[str, NDArray[np.uint8]]],
    rate: float,
    label_of: LabelOf | None = None,
    jpeg: bool = False,
    progress: Callable[[], object] | None = None,
) -> tuple[int, int]:
    """Write pictures as a camera's images, evenly spaced in time.

    Args:
        bag_path: The new bag's folder.
        pictures: Name and RGB image uint8 [H, W, 3].
        rate: Pictures per second.
        label_of: Returns a picture's label values int32 [H, W] by its name, or None where it has none.
        jpeg: Whether to write CompressedImage (JPEG, quality 95) on `/camera/image_raw/compressed`.
        progress: Called after each picture.

    Returns:
        How many images and how many labels were written.

    Raises:
        Vl4adError: If the folder exists or cannot be written, or a label does not fit its picture or 16 bits.
    """
    if not 0 < rate <= 1000:
        raise Vl4adError(f"The rate must lie in (0, 1000] pictures per second, got {rate:g}.")
    topic = f"{IMAGE_TOPIC}/compressed" if jpeg else IMAGE_TOPIC
    images = labels = 0
    with BagWriter(bag_path) as bag:
        bag.add_topic(topic, f"sensor_msgs/msg/{'CompressedImage' if jpeg else 'Image'}")
        if label_of is not None:
            bag.add_topic(LABEL_TOPIC, "sensor_msgs/msg/Image")
        for name, image in pictures:
            stamp = START_NS + round(images * 1e9 / rate)
            if jpeg:
                data = np.frombuffer(encode_jpeg(image, JPEG_QUALITY), np.uint8)
                header = bag.header(stamp, FRAME_ID)
                message = bag.message("sensor_msgs/msg/CompressedImage", header=header, format="jpeg", data=data)
            else:
                message = bag.image(image, "rgb8", stamp, FRAME_ID)
            bag.write(topic, stamp, message)
            images += 1
            values = label_of(name) if label_of is not None else None
            if values is not None:
                bag.write(LABEL_TOPIC, stamp, bag.image(*_label(name, values, image), stamp, FRAME_ID))
                labels += 1
            if progress is not None:
                progress()
    return images, labels


def _label(name: str, values: NDArray[np.int32], image: NDArray[np.uint8]) -> tuple[NDArray[np.unsignedinteger], str]:
    """Return a label as pixels and their encoding."""
    if values.shape != image.shape[:2]:
        raise Vl4adError(f"{name}: its label is {values.shape}, the picture {image.shape[:2]}.")
    if values.min() < 0 or values.max() > 0xFFFF:
        raise Vl4adError(f"{name}: its label has values up to {values.max()}; a bag's labels are mono8 or mono16.")
    if values.max() > 0xFF:
        return values.astype(np.uint16), "mono16"
    return values.astype(np.uint8), "mono8"
