"""Model bundles: a folder with an ONNX graph, its card, and prompt sets compiled for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from vl4ad_ros.io.checked import Checked, read_json, validate
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import sha256_file, sha256_text, write_text
from vl4ad_ros.io.onnx_files import external_data
from vl4ad_ros.io.resources import bundle_dir
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet, load_compiled
from vl4ad_ros.runtime.prompt_tensors import PromptLimits, PromptTensors, pack
from vl4ad_ros.runtime.scores import DEFAULT_SCORING, FIRST_SCORINGS, SCORINGS

CARD = "card.json"
PROMPTS = "prompts"
RANDOM_WORDS = "random_word"
_KINDS = {
    PROMPTS: ("prompt set", "vl4ad prompts compile"),
    RANDOM_WORDS: ("random-word network", "vl4ad random-word train"),
}
"""Folders of a bundle: what they hold, and the command that makes it."""


def _name_inside(name: str) -> str:
    """Refuse what may not be a file below the bundle's folder, and what ONNX Runtime takes for a memory address (*)."""
    if str(PurePosixPath(name)) != name or name.startswith("/") or name == "." or {"..", "*"} & set(name.split("/")):
        raise ValueError("expected the name of a file inside the bundle")
    return name


FileName = Annotated[str, AfterValidator(_name_inside)]


def _score(name: str) -> str:
    if name not in SCORINGS:
        raise ValueError(f"expected one of {list(SCORINGS)}")
    return name


Score = Annotated[str, AfterValidator(_score)]


class InputSpec(Checked):
    """How a camera image becomes the network's input."""

    # Rows of the network input; with `keep_aspect`, height * width is the number of pixels aimed at.
    height: int = Field(ge=1)
    width: int = Field(ge=1)  # columns of the network input
    multiple_of: int = Field(default=32, ge=1)  # both sides are multiples of this
    # `stretch`: always height x width. `keep_aspect`: the camera's aspect ratio, about the same number of pixels.
    resize: Literal["stretch", "keep_aspect"] = "stretch"
    # Per RGB channel, subtracted in the graph (0..255); stated for the record, the graph contains it.
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)  # per RGB channel, divided by in the graph


class BundleCard(Checked):
    """The card of a bundle (`card.json`)."""

    format: Literal["vl4ad_ros.bundle/1"] = "vl4ad_ros.bundle/1"
    name: str = Field(min_length=1)
    description: str = ""
    onnx: Annotated[FileName, Field(pattern=r"\.onnx$")] = "model.onnx"  # file name of the graph
    input: InputSpec  # how images enter
    text_encoder: str  # id of the text encoder whose embeddings the graph understands
    embedding_dim: int = Field(ge=1)  # D
    num_queries: int | None = Field(default=None, ge=1)  # N, or None for a dense model (one query per pixel)
    stride: int = Field(ge=1)  # network input pixels per score pixel
    temperature: float = Field(gt=0)  # the model's own T of Eq. 1.
    void: bool = False  # whether the softmax has a void column that was trained
    # Anomaly methods in the graph.
    methods: list[Literal["vl4ad", "random_word"]] = Field(default_factory=lambda: ["vl4ad"])  # type: ignore[arg-type]
    # Scores in the graph, in the order of their weights in its `settings`.
    scorings: list[Score] = Field(default_factory=lambda: list(FIRST_SCORINGS))
    default_score: Score = DEFAULT_SCORING  # used where the user names none; chosen on validation scenes
    prompt_limits: PromptLimits = PromptLimits()  # sizes of the prompt inputs
    # The sentences around each concept of the training vocabulary that decides which classes count as seen
    # (`vl4ad_ros.network.head`); prompt sets need the same. None: the graph has no such part.
    vocabulary_templates: tuple[str, ...] | None = None
    default_prompt_set: str  # used where the user names none
    default_threshold: float = Field(default=0.5, ge=0, le=1)  # on the published uncertainty, for the anomaly mask
    # The same for other methods and scores, by `threshold_key`.
    thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    precision: str = "float32"  # of the graph's weights and activations
    licence: str  # terms of the weights
    training_data: list[str] = Field(default_factory=list)  # every data set that the weights have seen
    training: dict[str, Any] = Field(default_factory=dict)  # command, seed, hours, hardware
    scores: dict[str, Any] = Field(default_factory=dict)  # measured results, each with how it was made
    # File name -> SHA-256 of every other file of the bundle, those with the graph's weights among them.
    sha256: dict[FileName, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _usable(self) -> BundleCard:
        if self.default_score not in self.usable_scorings:
            raise ValueError(f"default_score: expected one of {self.usable_scorings}, got '{self.default_score}'")
        return self

    @property
    def usable_scorings(self) -> list[str]:
        """The scores that say something with this graph: RbA is what no class claims, which void has to learn."""
        return [scoring for scoring in self.scorings if scoring != "rba" or self.void]

    def pack(
        self,
        prompt_set: CompiledPromptSet,
        scoring: str | None = None,
        temperature: float | None = None,
        method: str = "vl4ad",
        random_word: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> PromptTensors:
        """Pack a prompt set for the bundle's graph; arguments as of `prompt_tensors.pack`, None: the default score."""
        score = scoring or self.default_score
        if score in self.scorings and score not in self.usable_scorings:
            raise Vl4adError(
                f"The score '{score}' is of no use with bundle '{self.name}', whose void column was not trained: "
                f"expected one of {self.usable_scorings}."
            )
        if self.vocabulary_templates not in (None, prompt_set.templates):
            raise Vl4adError(
                f"Prompt set '{prompt_set.name}' was compiled with other templates than the training vocabulary of "
                f"bundle '{self.name}', whose classes would count as unseen: compile it with --templates vild, or "
                f"with {list(self.vocabulary_templates or ())}."
            )
        limits, scorings = self.prompt_limits, self.scorings
        return pack(prompt_set, limits, self.temperature, score, temperature, method, random_word, scorings)


def threshold_key(method: str, scoring: str) -> str:
    """Return the name of a method and score among a card's thresholds: `random_word` alone has but one score."""
    return method if method == "random_word" else f"{method}/{scoring}"


@dataclass(frozen=True)
class ModelBundle:
    """A bundle whose files have been checked against its card."""

    path: Path
    card: BundleCard

    @classmethod
    def load(cls, name_or_path: str | Path, verify: bool = True, but: str = "") -> ModelBundle:
        """Find a bundle by folder or installed name, read its card and check its files, with `verify` by their hashes.

        A file that is missing, differs from its hash or lies outside the bundle is refused, and a graph that takes
        weights from a file that the card does not cover. The file `but` is not looked at: it is to be made anew.
        """
        path = bundle_dir(name_or_path)
        if not (path / CARD).is_file():
            raise Vl4adError(f"{path}: not a model bundle, it has no {CARD}.")
        card = validate(BundleCard, read_json(path / CARD), path / CARD)
        hashes = {name: value for name, value in card.sha256.items() if name != but}
        _check_files(path, card.model_copy(update={"sha256": hashes}), verify)
        return cls(path, card)

    @property
    def onnx_path(self) -> Path:
        """The graph's file."""
        return self.path / self.card.onnx

    @cached_property
    def onnx_sha256(self) -> str:
        """SHA-256 of the graph's file, as on the card; with weights beside it, of the hashes of all of these files."""
        files = [self.card.onnx, *external_data(self.onnx_path)]
        hashes = [self.card.sha256[name] for name in files]
        return hashes[0] if len(hashes) == 1 else sha256_text("\n".join(hashes))

    def threshold(self, prompt_set: CompiledPromptSet, method: str, scoring: str) -> tuple[float, str]:
        """Return the anomaly mask's threshold where the user names none, and the prompt set that it was chosen for.

        The set's own, where it was measured with this graph; else the card's, which was chosen for the default set.
        """
        key = threshold_key(method, scoring)
        if prompt_set.thresholds_graph == self.onnx_sha256 and key in (prompt_set.thresholds or {}):
            return (prompt_set.thresholds or {})[key], prompt_set.name
        chosen_for = prompt_set.name if method == "random_word" else self.card.default_prompt_set
        return self.card.thresholds.get(key, self.card.default_threshold), chosen_for

    def prompt_set_names(self) -> list[str]:
        """Return the names of the prompt sets compiled for this bundle, sorted."""
        return self._names(PROMPTS)

    def _names(self, folder: str) -> list[str]:
        return sorted(path.stem for path in (self.path / folder).glob("*.safetensors"))

    def find_file(self, folder: str, name: str) -> Path:
        """Return the file of one of the bundle's prompt sets (`PROMPTS`) or random-word networks (`RANDOM_WORDS`)."""
        kind, command = _KINDS[folder]
        names = self._names(folder)
        if not names:
            raise Vl4adError(
                f"Bundle '{self.card.name}' has no {kind} '{name}'; make one with "
                f"'{command} --bundle {self.card.name}'."
            )
        if name not in names:
            raise Vl4adError(f"Unknown {kind} for bundle '{self.card.name}': expected one of {names}, got '{name}'.")
        return self.path / folder / f"{name}.safetensors"

    def check_encoder(self, folder: str, encoder_id: str, dim: int) -> None:
        """Check that a prompt set or random-word network was made for the text encoder of the bundle's graph."""
        card, (kind, command) = self.card, _KINDS[folder]
        if (encoder_id, dim) != (card.text_encoder, card.embedding_dim):
            raise Vl4adError(
                f"The {kind} was made for the text encoder '{encoder_id}' (dimension {dim}), but bundle '{card.name}' "
                f"needs '{card.text_encoder}' (dimension {card.embedding_dim}); make it again with "
                f"'{command} --bundle {card.name}'."
            )

    def load_prompt_set(self, name_or_path: str | Path | None = None) -> CompiledPromptSet:
        """Load a set by name, `.safetensors` file or None (the default), and check that it fits the bundle."""
        path = Path(name_or_path or self.card.default_prompt_set)
        # The card's own choice is a name: only the user may point outside the bundle.
        if not name_or_path or path.suffix != ".safetensors":
            path = self.find_file(PROMPTS, str(path))
        compiled = load_compiled(path)
        self.check_encoder(PROMPTS, compiled.encoder_id, compiled.dim)
        return compiled

    def scaled(self, scale: float) -> ModelBundle:
        """Return the bundle with the sides of the network's input scaled, by 0.25 to 4."""
        if scale == 1:
            return self
        if self.card.num_queries is not None:
            raise Vl4adError(
                f"input_scale must be 1 for bundle '{self.card.name}': its mask network takes one size only."
            )
        spec = self.card.input
        height, width = (
            max(1, round(side * scale / spec.multiple_of)) * spec.multiple_of for side in (spec.height, spec.width)
        )
        size = spec.model_copy(update={"height": height, "width": width})
        return replace(self, card=self.card.model_copy(update={"input": size}))

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the network's input size (rows, columns) for a camera image of the given size."""
        spec = self.card.input
        if spec.resize == "stretch":
            return spec.height, spec.width
        scale = (spec.height * spec.width / (height * width)) ** 0.5
        # Panoramas and slits: no side shorter than four cells, none longer than four times the usual one.
        low, high = 4 * spec.multiple_of, 4 * max(spec.height, spec.width)

        def fit(side: int) -> int:
            rounded = round(side * scale / spec.multiple_of) * spec.multiple_of
            return int(min(max(rounded, low), high // spec.multiple_of * spec.multiple_of))

        return fit(height), fit(width)


def _check_files(path: Path, card: BundleCard, verify: bool) -> None:
    """Check the files that a card names, and those that its graph names; see `ModelBundle.load`."""
    # Not `path`: where an installation links to each file of the sources, it links to the card, too.
    root = (path / CARD).resolve().parent
    for name in (card.onnx, *card.sha256):
        if not (path / name).is_file():
            raise Vl4adError(f"Bundle '{card.name}' in {path} is damaged: {name} is missing; get the bundle again.")
        if not (path / name).resolve().is_relative_to(root):
            raise Vl4adError(f"Bundle '{card.name}' in {path}: {name} is a link to a file outside the bundle.")
        if verify and name in card.sha256 and sha256_file(path / name) != card.sha256[name]:
            raise Vl4adError(
                f"Bundle '{card.name}' in {path} is damaged: {name} does not match the sha256 on its card; "
                "get the bundle again."
            )
    if card.onnx not in card.sha256:
        raise Vl4adError(f"{path / CARD}: sha256 does not cover {card.onnx}.")
    for name in external_data(path / card.onnx):
        if name not in card.sha256:
            raise Vl4adError(
                f"{path / CARD}: sha256 does not cover '{name}', from which {card.onnx} takes weights; "
                "only files of the bundle are read."
            )


def write_card(path: Path, card: BundleCard) -> BundleCard:
    """Write a bundle's card with fresh hashes of its files; return the card as written."""
    kept = [p for folder in (PROMPTS, RANDOM_WORDS) for p in sorted((path / folder).glob("*.safetensors"))]
    files = [card.onnx, *external_data(path / card.onnx), *(p.relative_to(path).as_posix() for p in kept)]
    files += [name for name in card.sha256 if name not in files and (path / name).is_file()]
    return _write_card(path, card, {name: sha256_file(path / name) for name in files})


def _write_card(path: Path, card: BundleCard, hashes: dict[str, str]) -> BundleCard:
    hashed = card.model_copy(update={"sha256": hashes})
    write_text(path / CARD, json.dumps(hashed.model_dump(mode="json"), indent=1) + "\n")
    return hashed


@contextmanager
def replacing(bundle: ModelBundle, file: Path) -> Iterator[None]:
    """Let a block write one file of a bundle, whose card has no hash for it meanwhile: a kill leaves a whole bundle."""
    name = file.resolve().relative_to(bundle.path.resolve()).as_posix()
    others = {other: value for other, value in bundle.card.sha256.items() if other != name}
    _write_card(bundle.path, bundle.card, others)
    try:
        yield
    finally:
        if file.is_file():
            _write_card(bundle.path, bundle.card, others | {name: sha256_file(file)})
