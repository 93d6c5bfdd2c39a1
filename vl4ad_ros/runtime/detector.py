"""The detector without ROS: from images to uncertainty maps, anomaly masks and regions, timed stage by stage."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.engine import Engine, create_engine
from vl4ad_ros.runtime.frames import GIVEN, FrameState, Job, OutputSize, Result, Wanted, finish
from vl4ad_ros.runtime.parameters import Settings
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.runtime.prompt_tensors import PromptTensors
from vl4ad_ros.runtime.random_word_files import METHOD, graph_inputs, load_bundled
from vl4ad_ros.runtime.random_word_network import DEFAULT, RandomWordNetwork
from vl4ad_ros.runtime.settings import GroundSettings, OutputSettings, PromptSettings, TrackSettings, from_ros

_OF_THE_PROMPTS = ("prompt_set", "scoring", "method", "random_word", "temperature")


class Detector:
    """A model bundle in an engine; each call names its state, so that no frame can mix two."""

    def __init__(self, bundle: ModelBundle, engine: Engine) -> None:
        self.bundle = bundle
        self.engine = engine

    @classmethod
    def open(
        cls,
        bundle: str | Path,
        backend: str = "onnxruntime",
        threads: int = 0,
        device_id: int = 0,
        auto_build: bool = False,
        max_batch: int = 1,
        input_scale: float = 1.0,
    ) -> Detector:
        """Load a bundle by name or path into one of `vl4ad_ros.runtime.engine.BACKENDS`.

        `threads` of the CPU, 0: the library chooses. With `auto_build` a missing or stale TensorRT engine is built
        here, for batches up to `max_batch`, which takes minutes; the log says why. `input_scale` multiplies a dense
        network's sides.
        """
        loaded = ModelBundle.load(bundle).scaled(input_scale)
        if auto_build and backend.startswith("tensorrt"):
            from vl4ad_ros.runtime.tensorrt_builder import ensure_engine

            ensure_engine(loaded, backend, max_batch, device_id)
        return cls(loaded, create_engine(loaded, backend, threads, device_id))

    def prompts(
        self,
        prompt_set: str | Path | CompiledPromptSet | None = None,
        scoring: str | None = None,
        temperature: float | None = None,
        method: str = "vl4ad",
        random_word: str | Path | RandomWordNetwork | None = None,
    ) -> PromptTensors:
        """Pack a prompt set for the graph: a name, a `.safetensors` file, the set itself, or None, the bundle's own.

        `temperature` overrides the set's and the model's; `random_word` is a network's name in the bundle, a file, the
        network itself, or None, the bundle's own.
        """
        self._check_method(method)
        compiled = prompt_set if isinstance(prompt_set, CompiledPromptSet) else self.bundle.load_prompt_set(prompt_set)
        inputs = graph_inputs(self.bundle, method, DEFAULT if random_word is None else random_word)
        return self.bundle.card.pack(compiled, scoring, temperature, method, inputs)

    def state(
        self,
        prompt_set: str | Path | CompiledPromptSet | None = None,
        scoring: str | None = None,
        temperature: float | None = None,
        method: str = "vl4ad",
        random_word: str | Path | None = None,
        threshold: float | None = None,
    ) -> FrameState:
        """Return the state that frames are processed with: `prompts` of the same arguments, and the mask's threshold.

        A random-word network that is given is read and checked with any method. The threshold is in [0, 1]; None takes
        that of the prompt set, method and score.
        """
        network = None
        if random_word is not None or method != "vl4ad":
            self._check_method(METHOD)
            network = load_bundled(self.bundle, DEFAULT if random_word is None else random_word)
        prompts = self.prompts(prompt_set, scoring, temperature, method, network)
        summary = None if network is None or method == "vl4ad" else network.summary()
        return self.with_threshold(FrameState(prompts, method=method, random_word=summary), threshold)

    def with_threshold(self, state: FrameState, threshold: float | None) -> FrameState:
        """Return a state with a threshold; None takes that of its prompt set, method and score."""
        own = self.bundle.threshold(state.prompts.prompt_set, state.method, state.prompts.scoring)
        value, chosen_for = own if threshold is None else (threshold, GIVEN)
        return replace(state, threshold=value, threshold_from=chosen_for)

    def _check_method(self, method: str) -> None:
        card = self.bundle.card
        for name in ("vl4ad", METHOD) if method == "both" else (method,):
            if name not in card.methods:
                raise Vl4adError(f"Bundle '{card.name}' has no method '{name}': expected one of {card.methods}.")

    def preprocess(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize an RGB image uint8 [H, W, 3] to the network's input size."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < 8:
            raise Vl4adError(
                f"Expected an RGB image uint8 [height, width, 3] of at least 8x8, got {image.dtype} {image.shape}."
            )
        height, width = self.bundle.network_size(image.shape[0], image.shape[1])
        if (height, width) == image.shape[:2]:
            return np.ascontiguousarray(image)
        # Halving by area, then bilinear: five times faster than one area resize by an odd factor, and free of aliasing.
        while image.shape[0] >= 2 * height and image.shape[1] >= 2 * width:
            half = (image.shape[1] // 2, image.shape[0] // 2)
            image = np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)

    def process(self, jobs: Sequence[Job], state: FrameState) -> list[Result]:
        """Process frames with one state; frames whose network sizes agree run as one batch."""
        began = time.perf_counter()
        inputs = [self.preprocess(job.image) for job in jobs]
        preprocess_ms = (time.perf_counter() - began) * 1e3
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, image in enumerate(inputs):
            groups.setdefault(image.shape[:2], []).append(index)
        results: dict[int, Result] = {}
        for size, members in groups.items():
            batch = inputs[members[0]][None] if len(members) == 1 else np.stack([inputs[index] for index in members])
            began = time.perf_counter()
            raw = self.engine.infer(batch, state.prompts)
            stages = {"preprocess": preprocess_ms, "engine": (time.perf_counter() - began) * 1e3}
            for score, index in zip(raw, members, strict=True):
                results[index] = finish(score, jobs[index], (size[0], size[1]), state, stages)
        return [results[index] for index in range(len(jobs))]

    def detect(
        self, image: NDArray[np.uint8], prompts: PromptTensors, size: OutputSize = "input"
    ) -> NDArray[np.float32]:
        """Return the uncertainty map, float32 in [0, 1], of an RGB image uint8 [H, W, 3], at an `OutputSize`."""
        job = Job(image, Wanted(mask=False), size=size)
        return self.process([job], FrameState(prompts))[0].uncertainty

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()


def next_state(
    detector: Detector, values: Mapping[str, Any], previous: FrameState | None, changed: frozenset[str] | None = None
) -> FrameState:
    """Make the state that all parameters ask for; a set or network in `changed` (None: all) is read again."""
    given = from_ros(values, PromptSettings.model_fields)
    if previous is None or changed is None or changed & set(_OF_THE_PROMPTS):
        state = detector.state(**given)
    else:
        state = detector.with_threshold(previous, given["threshold"])
    state = replace(
        state,
        version=1 if previous is None else previous.version,
        batch_wait_s=float(values["batch_wait_ms"]) / 1000,
        output=OutputSettings(**_of_group(OutputSettings, values)),
        tracks=TrackSettings(**_of_group(TrackSettings, values)),
        ground=GroundSettings(**_of_group(GroundSettings, values)),
    )
    if previous is None or (changed is not None and _result_settings(state) == _result_settings(previous)):
        return state
    return replace(state, version=state.version + 1)


def _result_settings(state: FrameState) -> tuple[object, ...]:
    """Return what can alter a map, a mask or a region: where it is equal, nothing was swapped."""
    prompts = state.prompts
    prompt_set = (prompts.prompt_set.name, prompts.prompt_set.version, prompts.scoring, prompts.temperature)
    output = state.output.model_dump(exclude={"max_rate", "enabled"})
    return *prompt_set, state.method, state.random_word, state.threshold, output


def _of_group(group: type[Settings], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[group.prefix + name] for name in group.model_fields}
