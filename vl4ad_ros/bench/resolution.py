"""What upsampling the score instead of every mask does to AP, on real frames with labels.

The masks are made from a dense bundle, so that they are real masks of real frames: one query per class, whose mask is
the class's own per-pixel posterior, s_i = p_i (mask logits log p_i / (1 - p_i)), and whose embedding is the text
embedding of the class's first concept, so that c_i is Eq. 1 between class texts. The network runs at the size at which
its masks are a quarter of the image, as a mask network's are; those are nearer to 0 and 1, which a factor on the logits
(`sharpness`) imitates. All forms then compute Eq. 2; they differ only in what is resized to the image: the finished
score, the class maps, or the mask logits before the sigmoid.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray

from vl4ad_ros.bundle import ModelBundle
from vl4ad_ros.detector import Detector
from vl4ad_ros.engines.factory import create_engine
from vl4ad_ros.errors import Vl4adError
from vl4ad_ros.evaluation.datasets import DatasetSource
from vl4ad_ros.evaluation.layouts import LAYOUTS
from vl4ad_ros.evaluation.pixel_metrics import PixelMetrics
from vl4ad_ros.scoring.reference import class_posterior, column_cosines

Array = NDArray[np.float32]

_QUARTER = 4
"""Image pixels per mask pixel, of FC-CLIP and of our mask network."""


class MaskMaker:
    """Masks and class posteriors of a dense bundle's in-distribution columns.

    Attributes:
        weights: c, [K, K]: Eq. 1 of each query over the K columns.
    """

    def __init__(self, bundle: ModelBundle, prompt_set: str | None = None, threads: int = 0) -> None:
        """Open a dense bundle whose graph's per-pixel posterior can be read.

        Raises:
            Vl4adError: If the bundle is no dense one.
        """
        import onnxruntime as ort

        if bundle.card.num_queries is not None or bundle.card.input.resize != "keep_aspect":
            raise Vl4adError(
                f"Bundle '{bundle.card.name}' is no dense model of free size, which the masks are made from."
            )
        self._detector = Detector(bundle, create_engine(bundle, threads=threads))
        self._prompts = self._detector.prompts(prompt_set)
        compiled = self._prompts.prompt_set
        self._num_id = compiled.num_id
        model = onnx.load(str(bundle.onnx_path))
        softmax = [node for node in model.graph.node if node.op_type == "Softmax"]
        if len(softmax) != 1:
            raise Vl4adError(f"The graph of '{bundle.card.name}' has {len(softmax)} softmax operators, expected one.")
        self._output = softmax[0].output[0]
        model.graph.output.append(onnx.helper.make_tensor_value_info(self._output, onnx.TensorProto.FLOAT, None))
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        first = [int(np.flatnonzero(compiled.concept_column == k)[0]) for k in range(self._num_id)]
        cosines = column_cosines(
            compiled.embeddings[first] @ compiled.embeddings.T, compiled.concept_column, len(compiled.columns)
        )
        posterior = class_posterior(cosines, self._prompts.temperature)[:, : self._num_id]
        self.weights: Array = np.asarray(posterior, dtype=np.float32)

    def logits(self, image: NDArray[np.uint8]) -> Array:
        """Return the mask logits of an RGB image [H, W, 3], float32 [K, about H / 4, about W / 4]."""
        card = self._detector.bundle.card
        step = card.input.multiple_of
        rows, columns = (max(round(side * card.stride / _QUARTER / step), 1) * step for side in image.shape[:2])
        inputs = {"image": cv2.resize(image, (columns, rows))[None], **self._prompts.graph_inputs()}
        (posterior,) = self._session.run([self._output], inputs)
        p = np.clip(posterior[0, ..., : self._num_id].transpose(2, 0, 1), 1e-6, 1 - 1e-6)
        return np.asarray(np.log(p / (1 - p)), dtype=np.float32)


def score_then_upsample(logits: Array, weights: Array, height: int, width: int) -> Array:
    """Eq. 2 at the masks' resolution, then one map to the image's size: float32 [height, width]."""
    return _resize(_eq_2(logits, weights), height, width)


def upsample_then_score(logits: Array, weights: Array, height: int, width: int) -> Array:
    """Every mask to the image's size, then Eq. 2: float32 [height, width]."""
    return _eq_2(np.stack([_resize(mask, height, width) for mask in logits]), weights)


def upsample_classes(logits: Array, weights: Array, height: int, width: int) -> Array:
    """Between the two: S_k at the masks' resolution, K maps of their log odds to the image's size, then the maximum.

    Equal to resizing the masks where each class is one mask, and far cheaper than that where N is larger than K.
    """
    masks = 1 / (1 + np.exp(-logits))
    support = np.clip(np.einsum("nhw,nk->khw", masks, weights), 1e-6, 1 - 1e-6)
    odds = np.log(support / (1 - support)).astype(np.float32)
    return np.asarray(-1 / (1 + np.exp(-np.stack([_resize(k, height, width) for k in odds]).max(axis=0))), np.float32)


def _eq_2(logits: Array, weights: Array) -> Array:
    masks = 1 / (1 + np.exp(-logits))
    return np.asarray(-np.einsum("nhw,nk->khw", masks, weights).max(axis=0), dtype=np.float32)


def _resize(plane: Array, height: int, width: int) -> Array:
    return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


FORMS = (upsample_then_score, upsample_classes, score_then_upsample)


def compare_resolution(
    bundle: ModelBundle,
    data: Path,
    layout: str,
    every: int = 1,
    prompt_set: str | None = None,
    threads: int = 0,
    sharpness: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure AP and FPR95 of all forms on the same frames.

    Args:
        bundle: A dense bundle.
        data: Root of a data set.
        layout: One of `vl4ad_ros.evaluation.layouts.LAYOUTS`.
        every: Take every n-th frame.
        prompt_set: Prompt set of the bundle; None takes its default.
        threads: CPU threads.
        sharpness: Factor on the mask logits.
        progress: Called with (frames done, frames in all).

    Returns:
        `forms`: for each of `FORMS` by name `ap`, `fpr95` in percent and `ap_change` in points against resizing the
        masks; `frames`, `sharpness`.
    """
    if layout not in LAYOUTS:
        raise Vl4adError(f"Unknown data set: expected one of {sorted(LAYOUTS)}, got '{layout}'.")
    maker = MaskMaker(bundle, prompt_set, threads)
    source = DatasetSource(data, LAYOUTS[layout])
    forms = {form.__name__: (form, PixelMetrics()) for form in FORMS}
    indices = range(0, len(source), every)
    for done, frame in enumerate(source.frames(indices), start=1):
        if frame.labels is None:
            continue
        logits = np.float32(sharpness) * maker.logits(frame.image)
        for form, metrics in forms.values():
            metrics.add(form(logits, maker.weights, *frame.labels.shape), frame.labels)
        if progress is not None:
            progress(done, len(indices))
    figures: dict[str, Any] = {}
    for name, (_, metrics) in forms.items():
        result = metrics.result()
        figures[name] = {"ap": 100 * result.ap, "fpr95": 100 * result.fpr95}
    exact = figures[upsample_then_score.__name__]["ap"]
    for figure in figures.values():
        figure["ap_change"] = figure["ap"] - exact
    return {"forms": figures, "frames": len(indices), "sharpness": sharpness}
