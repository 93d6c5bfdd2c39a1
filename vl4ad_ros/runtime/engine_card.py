"""What stands beside a TensorRT engine: what it was built from and for, and whether it may still be used."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from vl4ad_ros.io.checked import Checked, read_json, validate
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import sha256_file, write_text
from vl4ad_ros.runtime.bundle import ModelBundle

ENGINES = "engines"
NOT_CHECKED = "not checked: no GPU here"


class ImageProfile(Checked):
    """The image shapes that an engine accepts: batch 1 to `max_batch`, sizes from `min_size` to `max_size`."""

    max_batch: int = Field(ge=1)  # largest batch (the number of cameras)
    min_size: tuple[int, int]  # smallest height and width
    best_size: tuple[int, int]  # height and width that the engine is tuned for
    max_size: tuple[int, int]  # largest height and width

    def accepts(self, batch: int, height: int, width: int) -> bool:
        """Return whether an image batch of this shape may enter."""
        lowest, highest = (1, *self.min_size), (self.max_batch, *self.max_size)
        return all(low <= n <= high for low, n, high in zip(lowest, (batch, height, width), highest, strict=True))


class Gpu(Checked):
    """A GPU by the driver's name for it and its compute capability `major.minor`, e.g. `8.9`."""

    name: str
    compute_capability: str

    def __str__(self) -> str:
        return f"{self.name} ({self.compute_capability})"


class EngineCard(Checked):
    """The JSON beside an engine."""

    format: Literal["vl4ad_ros.engine/1"] = "vl4ad_ros.engine/1"
    bundle: str
    onnx_sha256: str  # hash of the graph that the engine was built from
    engine_sha256: str  # hash of the engine
    engine_bytes: int
    library: Literal["tensorrt", "tensorrt_rtx"]
    version: str  # the library's version
    gpu: Gpu | None  # the GPU that it was built on; None if there was none (TensorRT for RTX)
    # Empty; on the cards of earlier versions.
    compute_capabilities: tuple[str, ...] = Field(default=(), max_length=0, exclude=True)
    precision: str
    image: ImageProfile  # image shapes that it accepts
    workspace_mib: int | None  # limit of the scratch memory, or None
    build_seconds: float
    check: dict[str, Any] | str  # measured difference to ONNX Runtime, or `NOT_CHECKED`

    def write(self, engine: Path) -> None:
        """Write the card beside its engine."""
        write_text(card_path(engine), self.model_dump_json(indent=1) + "\n")


def engine_path(bundle: ModelBundle, library: str) -> Path:
    """Return where a bundle's engine for a library lies; one for each library."""
    return bundle.path / ENGINES / f"{library}.engine"


def card_path(engine: Path) -> Path:
    """Return where the card of an engine lies."""
    return engine.with_suffix(".json")


def _build_command(bundle: ModelBundle, library: str, image: ImageProfile | None = None) -> str:
    """Return the command that builds a bundle's engine, with the shapes of the one that it replaces."""
    words = ["vl4ad", "export", "tensorrt", str(bundle.path), "--library", library]
    if image is not None:
        words += ["--max-batch", str(image.max_batch)]
        if bundle.card.input.resize == "keep_aspect":
            for option, size in (("min", image.min_size), ("best", image.best_size), ("max", image.max_size)):
                words += [f"--{option}-size", f"{size[0]}x{size[1]}"]
    return shlex.join(words)


def load_engine_card(bundle: ModelBundle, library: str) -> EngineCard:
    """Read the card of a bundle's engine."""
    engine = engine_path(bundle, library)
    for path in (engine, card_path(engine)):
        if not path.is_file():
            raise Vl4adError(
                f"Bundle '{bundle.card.name}' has no {library} engine ({path} is missing); build it with: "
                f"{_build_command(bundle, library)}"
            )
    return validate(EngineCard, read_json(card_path(engine)), card_path(engine))


def stale_part(card: EngineCard, bundle: ModelBundle, version: str, gpu: Gpu) -> str | None:
    """Return what no longer fits between an engine and what it should run with here, or None.

    TensorRT's engines hold kernels chosen for one GPU model and one library version; those of TensorRT for RTX hold
    none, but are tied to the version.
    """
    if card.onnx_sha256 != bundle.onnx_sha256:
        return f"the graph {bundle.card.onnx} is another one ({bundle.onnx_sha256[:12]}, was {card.onnx_sha256[:12]})"
    if card.version != version:
        return f"the library is {card.library} {version}, was {card.version}"
    if card.library == "tensorrt" and card.gpu != gpu:
        return f"the GPU is {gpu}, was {card.gpu or 'unknown'}"
    engine = engine_path(bundle, card.library)
    if sha256_file(engine) != card.engine_sha256:
        return f"the file {engine.name} does not match the sha256 on its card"
    return None


def check_fresh(card: EngineCard, bundle: ModelBundle, version: str, gpu: Gpu) -> None:
    """Refuse an engine that does not fit; see `stale_part`."""
    if part := stale_part(card, bundle, version, gpu):
        raise Vl4adError(
            f"The engine {engine_path(bundle, card.library)} is stale: {part}; rebuild it with: "
            f"{_build_command(bundle, card.library, card.image)}"
        )
