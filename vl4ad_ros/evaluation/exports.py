"""Results for others' tools: an MCAP file for Foxglove, and SegmentMeIfYouCan's submission."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.datasets import DatasetSource
from vl4ad_ros.evaluation.frames import Frame, FrameSource
from vl4ad_ros.evaluation.predictor import PredictorSpec, predictions
from vl4ad_ros.io.bag_writer import BagWriter
from vl4ad_ros.io.drawing import draw_overlay
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.media import encode_jpeg, encode_png
from vl4ad_ros.runtime.frames import anomaly_mask

PREFIX = "/evaluation"
IMAGE = "sensor_msgs/msg/CompressedImage"
NUMBER = "std_msgs/msg/Float32"
FRAME_ID = "camera"
QUALITY = 82
# Frames without stamps (data sets) are laid one second apart.
STEP_NS = 1_000_000_000


def write_mcap(
    folder: Path,
    source: FrameSource,
    predictor: PredictorSpec,
    records: Sequence[dict[str, Any]],
    progress: Callable[[int], object] | None = None,
) -> None:
    """Predict the evaluated frames once more, in order, and write them with their figures.

    Topics: `/evaluation/image`, `/evaluation/overlay` (JPEG), `/evaluation/mask`, `/evaluation/label` (PNG; labels as
    stored: 0, 1, 255), and `/evaluation/{ap,fpr95,mask_share,latency_ms}` (std_msgs/Float32, for plots).
    """
    by_index = {record["index"]: record for record in records}
    with BagWriter(folder) as bag:
        for name in ("image", "overlay", "mask", "label"):
            bag.add_topic(f"{PREFIX}/{name}", IMAGE)
        for name in ("ap", "fpr95", "mask_share", "latency_ms"):
            bag.add_topic(f"{PREFIX}/{name}", NUMBER)
        for frame, prediction in predictions(source, predictor, sorted(by_index)):
            stamp = (frame.index + 1) * STEP_NS if frame.stamp_ns is None else frame.stamp_ns
            record = by_index[frame.index]
            for name, (kind, data) in _pictures(frame, prediction.uncertainty, record["threshold"]).items():
                message = bag.message(
                    IMAGE, header=bag.header(stamp, FRAME_ID), format=kind, data=np.frombuffer(data, np.uint8)
                )
                bag.write(f"{PREFIX}/{name}", stamp, message)
            figures = {name: record.get(name) for name in ("ap", "fpr95", "mask_share")}
            figures["latency_ms"] = record["latency_ms"].get("total")
            for name, value in figures.items():
                if value is not None:
                    bag.write(f"{PREFIX}/{name}", stamp, bag.message(NUMBER, data=float(value)))
            if progress is not None:
                progress(1)


def _pictures(frame: Frame, uncertainty: NDArray[np.float32], threshold: float) -> dict[str, tuple[str, bytes]]:
    """Return a frame's pictures: topic -> format and data."""
    mask = anomaly_mask(uncertainty, threshold)
    pictures = {
        "image": ("jpeg", encode_jpeg(frame.image, QUALITY)),
        "overlay": ("jpeg", encode_jpeg(draw_overlay(frame.image, uncertainty, mask), QUALITY)),
        "mask": ("png", encode_png(mask)),
    }
    return pictures if frame.labels is None else pictures | {"label": ("png", encode_png(frame.labels))}


def write_submission(folder: Path, source: DatasetSource, spec: PredictorSpec, method: str) -> int:
    """Write the maps of all images, labelled or not, as `value`, float16 [H, W]; return their number."""
    try:
        import h5py
    except ImportError as error:
        raise Vl4adError("h5py is not installed; get it with: pip install 'vl4ad_ros[eval]'.") from error
    if source.layout.benchmark is None:
        raise Vl4adError(f"{source.layout.title} is no data set of SegmentMeIfYouCan; leave --submission out.")
    target = folder / "anomaly_p" / method / source.layout.benchmark
    target.mkdir(parents=True, exist_ok=True)
    count = 0
    for frame, prediction in predictions(source, spec, range(len(source))):
        with h5py.File(target / f"{frame.name}.hdf5", "w") as file:
            file.create_dataset("value", data=prediction.uncertainty.astype(np.float16), compression=9)
        count += 1
    return count
