"""Score maps in the layout that SegmentMeIfYouCan's evaluator reads: anomaly_p/METHOD/DATASET/FRAME.hdf5."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vl4ad_ros.evaluation.datasets import DatasetSource
from vl4ad_ros.evaluation.predictor import PredictorSpec, predictions
from vl4ad_ros.io.errors import Vl4adError


def write_submission(folder: Path, source: DatasetSource, spec: PredictorSpec, method: str) -> int:
    """Run the detector on all images of a data set, labelled or not, and write its maps; return their number.

    Each file holds one data set `value`: float16 [H, W], higher = more anomalous.
    """
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
