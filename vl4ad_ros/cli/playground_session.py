"""The playground without its page: pictures, two prompt sets as text, and the maps and explanations they give."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.drive.render import Drive
from vl4ad_ros.io.bag_reader import BagReader, is_bag
from vl4ad_ros.io.drawing import draw_legend, draw_overlay
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import atomic_write, sha256_text, write_text
from vl4ad_ros.io.media import VIDEOS, Input, Video, find_inputs, read_picture
from vl4ad_ros.io.resources import prompt_yamls
from vl4ad_ros.network.pixel_explainer import Explanation, PixelExplainer
from vl4ad_ros.prompts.compile import compile_prompt_set
from vl4ad_ros.prompts.encoders import TextEncoder
from vl4ad_ros.prompts.schema import parse_prompt_set
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.frames import FrameState, Job, Result, Wanted
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.runtime.settings import OutputSettings

VIEWS = ("anomalies", "uncertainty", "camera")
SHOWN_WIDTH = 1280


class CachingEncoder:
    """A text encoder that embeds each text once; `id` and `dim` are those of the one behind it."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.id, self.dim = encoder.id, encoder.dim
        self._encoder = encoder
        self._rows: dict[str, NDArray[np.float32]] = {}

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Return float32 [len(texts), dim], rows of unit length."""
        if new := [text for text in dict.fromkeys(texts) if text not in self._rows]:
            self._rows.update(zip(new, self._encoder.encode(new), strict=True))
        return np.stack([self._rows[text] for text in texts])


@dataclass(frozen=True)
class Source:
    """Something with pictures: its name for people, how many, and what reads one as RGB uint8 [H, W, 3]."""

    name: str
    count: int
    read: Callable[[int], NDArray[np.uint8]]


def open_sources(paths: Sequence[Path], topic: str | None = None) -> list[Source]:
    """Look at pictures, videos, folders of them, and bags; without any, the sample drive is drawn.

    A bag's frames are found by time, so that a long one is not read from its beginning for each.
    """
    if not paths:
        drive = Drive(seed=0, frames=120)
        return [Source("sample drive", drive.frames, lambda index: drive.frame(index).image)]
    sources = []
    for path in paths:
        if is_bag(path):
            with BagReader(path) as bag:
                name = bag.image_topic(topic)
                count = bag.count(name)
            sources.append(Source(path.name, count, partial(_read_bag, path, name, count)))
        else:
            sources += [
                Source(entry.path.name, entry.count, partial(_read_input, entry)) for entry in find_inputs([path])
            ]
    return sources


def _read_bag(path: Path, topic: str, count: int, index: int) -> NDArray[np.uint8]:
    with BagReader(path) as bag:
        # Half a frame early: stamps are never quite even.
        return bag.image_at(topic, max(0.0, (index - 0.5) / max(count - 1, 1))).rgb()


def _read_input(entry: Input, index: int) -> NDArray[np.uint8]:
    if entry.path.suffix.lower() not in VIDEOS:
        return read_picture(entry.path)
    with Video(entry.path) as video:
        return video.frame(index)


@dataclass
class Controls:
    """What is set beside the prompts; a temperature of None is the prompt set's own."""

    method: str
    scoring: str
    threshold: float
    temperature: float | None = None


@dataclass
class Side:
    """One of the two prompt sets: its YAML text and what came of it.

    Attributes:
        text: YAML, as it is being written.
        error: Why text or controls cannot be used; what follows is then from before.
        prompts: The last usable text, compiled.
        state: What the map was made with.
        result: The map, the mask and the regions.
        found: The explanation of the point that was clicked.
        words: The same in sentences, or why there is none.
        seconds: From the text to the map.
    """

    text: str
    error: str = ""
    prompts: CompiledPromptSet | None = None
    state: FrameState | None = None
    result: Result | None = None
    found: Explanation | None = None
    words: Sequence[str] = ()
    seconds: float = 0.0


class PlaygroundSession:
    """A picture, two prompt sets and the controls; its methods may be called from several threads.

    Attributes:
        detector: The open detector.
        sources: Where pictures come from.
        sides: The prompt sets A and B.
        controls: What both share.
        source: Number of the source of the picture to show.
        index: Number of the picture in it.
        image: The picture, RGB uint8 [H, W, 3]; the last one where the one to show cannot be read.
        point: Column and row of the picture that are explained, or None.
        view: What is shown of it, one of `VIEWS`.
        compare: Whether B is shown beside A.
        dark: Whether the page is dark.
    """

    def __init__(
        self, detector: Detector, encoder: TextEncoder, sources: Sequence[Source], texts: tuple[str, str], out: Path
    ) -> None:
        """Read the first picture; `encoder` is that of the bundle, `texts` YAML of A and B, sets are saved in `out`."""
        card = detector.bundle.card
        self.detector, self.sources, self.out = detector, sources, out
        self.sides = (Side(texts[0]), Side(texts[1]))
        self.controls = Controls(card.methods[0], card.default_score, 0)
        self.reset_threshold()
        self.source, self.index = 0, 0
        self.point: tuple[int, int] | None = None
        self.view, self.compare, self.dark = VIEWS[0], False, False
        self._encoder = CachingEncoder(encoder)
        self._explainer: PixelExplainer | None = None
        self._embedding: NDArray[np.float32] | None = None
        self._lock = threading.Lock()
        self._read_from = (-1, -1)
        self._read()

    def _read(self) -> None:
        """Read the picture that is asked for, unless it is the one that is there."""
        if self._read_from != (self.source, self.index):
            self.image = self.sources[self.source].read(self.index)
            self._read_from, self._embedding = (self.source, self.index), None

    def reset_threshold(self) -> None:
        """Take the bundle's own threshold for the method and score."""
        controls, bundle = self.controls, self.detector.bundle
        controls.threshold, _ = bundle.threshold(bundle.load_prompt_set(), controls.method, controls.scoring)

    @property
    def shown_scale(self) -> float:
        """Width of what is shown over that of the picture."""
        return min(1.0, SHOWN_WIDTH / int(self.image.shape[1]))

    def prompt_sets(self) -> dict[str, Path]:
        """Return the YAML files that can be opened: shipped ones, and those saved here."""
        return prompt_yamls() | {f"{path.stem} (saved)": path for path in sorted(self.out.glob("*.yaml"))}

    def update(self, side: Side) -> None:
        """Make a side's map and explanation anew, or say in its `error` why they are as before."""
        with self._lock:
            side.error = ""
            began = time.perf_counter()
            try:
                self._read()
                began = time.perf_counter()
                side.prompts = self._compile(side.text)
            except Vl4adError as error:
                side.error = str(error)
            if side.prompts is None:
                return
            try:
                state = self.detector.state(side.prompts, **vars(self.controls))
                side.state = replace(state, output=OutputSettings())
                (side.result,) = self.detector.process([Job(self.image, Wanted(regions=True))], side.state)
            except Vl4adError as error:
                side.error = side.error or str(error)
                return
            side.seconds = time.perf_counter() - began
            self._explain(side, side.state)

    def _compile(self, text: str) -> CompiledPromptSet:
        return compile_prompt_set(parse_prompt_set(text), self._encoder, sha256_text(text))

    def _explain(self, side: Side, state: FrameState) -> None:
        side.found, side.words = None, ()
        height, width = self.image.shape[:2]
        if self.point is None or self.point[0] >= width or self.point[1] >= height:
            return
        x, y = self.point
        try:
            self._explainer = self._explainer or PixelExplainer(self.detector.bundle)
        except Vl4adError as error:
            side.words = [str(error)]
            return
        if self._embedding is None:
            self._embedding = self._explainer.embed(self.detector.preprocess(self.image))
        pixel = self._explainer.in_box(self._embedding, (x, y, x + 1, y + 1), (height, width))
        side.found = self._explainer.explain(pixel, state.prompts, state.threshold)
        side.words = side.found.sentences(state.threshold)

    def picture(self, side: Side) -> NDArray[np.uint8]:
        """Return what is shown of a side: RGB uint8, at most `SHOWN_WIDTH` wide."""
        result, state, scale = side.result, side.state, self.shown_scale
        size = (round(self.image.shape[1] * scale), max(1, round(self.image.shape[0] * scale)))
        image = np.asarray(cv2.resize(self.image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        if result is None or state is None or self.view == VIEWS[2]:
            return image
        alarms = self.view == VIEWS[0]
        drawn = draw_overlay(image, result.uncertainty, result.mask if alarms else None)
        draw_legend(drawn, state.threshold if alarms else None)
        return drawn

    def save(self, side: Side) -> Path:
        """Write a side's text as YAML and compiled, under the name in it; return the compiled set's file."""
        with self._lock:
            compiled = self._compile(side.text)
            self.detector.bundle.card.pack(compiled)
            path = (self.out / f"{compiled.name}.safetensors").resolve()
            write_text(path.with_suffix(".yaml"), side.text)
            with atomic_write(path) as part:
                compiled.save(part)
            return path
