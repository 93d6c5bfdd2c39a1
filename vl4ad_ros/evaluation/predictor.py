"""What turns a frame into an uncertainty map: the detector, run here, or a recording of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.evaluation.frames import Frame, FrameSource
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import sha256_file
from vl4ad_ros.runtime.bundle import CARD
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.frames import Job, Wanted, upsample
from vl4ad_ros.runtime.scores import image_score


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a frame gives."""

    uncertainty: NDArray[np.float32]  # float32 [H, W] in [0, 1], at the size of the labels (or image)
    latency_ms: dict[str, float]  # stage -> milliseconds
    image_score: float  # how anomalous the picture is as a whole, in [0, 1]


class Predictor(Protocol):
    """Gives the uncertainty of a frame."""

    @property
    def default_threshold(self) -> float:
        """The threshold of the anomaly mask where none is named, [0, 1]."""

    def describe(self) -> dict[str, Any]:
        """Return what identifies it, for `result.json`: bundle, engine, prompts, settings, with their hashes."""

    def predict(self, frame: Frame) -> Prediction:
        """Predict a frame."""

    def close(self) -> None:
        """Free what it holds."""


class PredictorSpec(Protocol):
    """How to open a predictor in any process: small, and picklable."""

    def open(self) -> Predictor:
        """Load what predicts."""


def predictions(
    source: FrameSource, predictor: PredictorSpec, indices: Sequence[int]
) -> Iterator[tuple[Frame, Prediction]]:
    """Open a predictor and yield those of the frames that can be read, each with its prediction."""
    with closing(predictor.open()) as opened:
        for frame in source.frames(indices):
            yield frame, opened.predict(frame)


@dataclass(frozen=True)
class DetectorSpec:
    """How to open the detector, in any process; the fields are the settings of these names."""

    bundle: str
    backend: str = "onnxruntime"
    prompt_set: str | None = None
    scoring: str | None = None
    method: str = "vl4ad"
    temperature: float | None = None
    threads: int = 0
    random_word: str | None = None
    device_id: int = 0
    input_scale: float = 1.0

    def open(self) -> DetectorPredictor:
        """Load the bundle into its engine."""
        return DetectorPredictor(self)


class DetectorPredictor:
    """The detector, run in this process."""

    def __init__(self, spec: DetectorSpec) -> None:
        self._detector = Detector.open(
            spec.bundle, spec.backend, spec.threads, spec.device_id, input_scale=spec.input_scale
        )
        self._input_scale = spec.input_scale
        self._state = self._detector.state(
            spec.prompt_set, spec.scoring, spec.temperature, spec.method, spec.random_word
        )

    @property
    def default_threshold(self) -> float:
        """The threshold of the anomaly mask, of this prompt set, method and score."""
        return self._state.threshold

    def describe(self) -> dict[str, Any]:
        """Return bundle, engine, prompt set, random-word network and settings with their hashes."""
        bundle, prompts = self._detector.bundle, self._state.prompts
        return {
            "bundle": bundle.card.name,
            "card_sha256": sha256_file(bundle.path / CARD),
            "engine": asdict(self._detector.engine.info),
            "input_scale": self._input_scale,
            "prompt_set": prompts.prompt_set.name,
            "prompt_set_version": prompts.prompt_set.version,
            "prompt_set_source_sha256": prompts.prompt_set.source_sha256,
            "scoring": prompts.scoring,
            "method": self._state.method,
            "random_word": self._state.random_word,
            "temperature": prompts.temperature,
            "threshold_from": self._state.threshold_from,
        }

    def predict(self, frame: Frame) -> Prediction:
        """Run the detector; the stages are `preprocess`, `engine`, `upsample` (to the published map) and `total`."""
        (result,) = self._detector.process([Job(frame.image, Wanted(mask=False), size=frame.size)], self._state)
        stages = dict(result.milliseconds)
        stages["upsample"] = stages.pop("postprocess")
        stages["total"] = sum(stages.values())
        return Prediction(result.uncertainty, stages, image_score(result.uncertainty))

    def close(self) -> None:
        """Free the engine."""
        self._detector.close()


@dataclass(frozen=True)
class Recording:
    """Results that a running detector node has published and a recorder has kept; the frames carry them."""

    # What is known of the detector: the keys of `describe`, and its `threshold`.
    about: dict[str, Any] = field(default_factory=dict)

    def open(self) -> Recording:
        """Return itself; there is nothing to load."""
        return self

    @property
    def default_threshold(self) -> float:
        """The detector's own threshold, as far as it is known."""
        return float(self.about.get("threshold", 0.5))

    def describe(self) -> dict[str, Any]:
        """Return what is known of the detector."""
        return self.about

    def predict(self, frame: Frame) -> Prediction:
        """Return the recorded map at the labels' size."""
        if frame.uncertainty is None:
            raise Vl4adError(f"Frame {frame.name} has no recorded uncertainty map.")
        uncertainty = upsample(frame.uncertainty, *frame.size)
        return Prediction(uncertainty, frame.latency_ms, image_score(uncertainty))

    def close(self) -> None:
        """Do nothing."""
