"""The gap between image and text embeddings: measured on unlabelled images, closed by a shift of the visual cloud.

Images and texts of one model lie in two separate clouds on the sphere (the modality gap, arXiv 2203.02053). A network
that has seen texts alone would judge the gap instead of the content. So the visual embedding v enters as
normalise(v + shift), shift = mean text embedding - mean visual embedding, both within the directions that the network's
first layer looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.media import PICTURES, read_picture
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.runtime.prompt_tensors import PromptTensors
from vl4ad_ros.runtime.random_word_files import graph_inputs
from vl4ad_ros.runtime.random_word_network import RandomWordNetwork

Reference = Literal["normal", "all"]
Progress = Callable[[int, int], None]


def read_images(folder: Path, limit: int) -> list[NDArray[np.uint8]]:
    """Read up to `limit` images RGB uint8 [H, W, 3], spread evenly over a folder."""
    if not folder.is_dir():
        raise Vl4adError(f"There is no folder {folder}.")
    if limit < 1:
        raise Vl4adError(f"The number of images to close the gap with must be at least 1, got {limit}.")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    if not files:
        raise Vl4adError(f"{folder} holds no images.")
    count = min(limit, len(files))
    return [read_picture(files[index * len(files) // count], as_stored=True) for index in range(count)]


def directions(network: RandomWordNetwork) -> NDArray[np.float32]:
    """Return an orthonormal basis [r, D] of the directions that the first layer uses, r <= hidden units."""
    rows, sizes, _ = np.linalg.svd(network.w1.astype(np.float64), full_matrices=False)
    return np.ascontiguousarray(rows[:, sizes > 1e-6 * sizes[0]].T, dtype=np.float32)


def close_gap(
    network: RandomWordNetwork, visual_mean: NDArray[np.float32], reference: Reference, note: dict[str, Any]
) -> RandomWordNetwork:
    """Return the network with the shift that brings the mean visual embedding onto the mean text embedding.

    Of `visual_mean`, float32 [D], of unit embeddings, only the part along `directions(network)` counts. The `reference`
    is the mean of the `normal` prompts, where the images show normal scenes, or of `all`. The `note` goes onto the
    card.
    """
    text = network.text_means[0] if reference == "normal" else network.text_means.mean(axis=0)
    basis = directions(network)
    moved = basis @ (text - visual_mean)
    length = float(np.linalg.norm(moved))
    return network.with_shift(moved @ basis, {"kind": "shift", "reference": reference, "length": length, **note})


def probe(row: NDArray[np.float32], bundle: ModelBundle, scoring: str, temperature: float) -> PromptTensors:
    """Return prompt inputs with one concept: with `max_logit` at T = 1, the score is then -sum_i s_i v_i . row."""
    single = CompiledPromptSet(
        name="probe",
        description="",
        columns=("probe",),
        members=(("probe",),),
        concepts=("probe",),
        concept_column=np.zeros(1, dtype=np.int32),
        embeddings=np.array(row, dtype=np.float32)[None],
        num_id=1,
        temperature=temperature,
        encoder_id=bundle.card.text_encoder,
        source_sha256="",
    )
    return bundle.card.pack(single, scoring, random_word=graph_inputs(bundle, "vl4ad"))


def mean_visual_embedding(
    detector: Detector,
    images: Sequence[NDArray[np.uint8]],
    basis: NDArray[np.float32],
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Measure the mean unit embedding of all pixels (of a mask model: of all queries, weighted by their masks).

    A graph's only output is its score, which is enough: each image RGB uint8 [H, W, 3] is run with each direction, the
    rows of the orthonormal `basis` float32 [r, D], as the only concept. Returns float32 [D], zero outside of the basis.
    """
    bundle, inputs = detector.bundle, [detector.preprocess(image)[None] for image in images]
    # At 1/T near 0 a softmax over one class (and perhaps void) is a constant: the score is -sum_i s_i, times that.
    share = 0.5 if bundle.card.void else 1.0
    probes = [probe(basis[0], bundle, "vl4ad", 1e6), *(probe(row, bundle, "max_logit", 1.0) for row in basis)]
    sums = np.zeros(len(probes))
    for done, (image, (place, tensors)) in enumerate(product(inputs, enumerate(probes)), start=1):
        sums[place] -= float(detector.engine.infer(image, tensors).sum(dtype=np.float64))
        if progress is not None:
            progress(done, len(inputs) * len(probes))
    return np.asarray(sums[1:] / (sums[0] / share) @ basis, dtype=np.float32)
