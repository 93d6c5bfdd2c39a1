"""What upsampling the score instead of every mask does to AP, on real frames with labels.

Masks come from a trained mask network (`NetworkMasks`), or are made from a dense bundle (`DenseMasks`). Either runs at
the size at which its masks are a quarter of the image. All forms then compute Eq. 2; they differ in what is resized to
the image: the finished score, the class maps (`vl4ad_ros.network.image_score`), or the mask logits before the sigmoid.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray

from vl4ad_ros.evaluation.datasets import DatasetSource
from vl4ad_ros.evaluation.layouts import LAYOUTS
from vl4ad_ros.evaluation.pixel_metrics import PixelMetrics
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.score_reference import class_posterior, column_cosines
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.engine import create_engine
from vl4ad_ros.runtime.prompt_tensors import PromptTensors
from vl4ad_ros.runtime.scores import SCORINGS, SETTINGS_SIZE

Array = NDArray[np.float32]
Form = Callable[[Array, Array, int, int], Array]

_QUARTER = 4
"""Image pixels per mask pixel, of FC-CLIP and of our mask network."""


class Masks(Protocol):
    """What gives the masks of a frame."""

    def masks(self, image: NDArray[np.uint8]) -> tuple[Array, Array]:
        """Return mask logits [N, about H / 4, about W / 4] and Eq. 1 [N, K] of an RGB image [H, W, 3]."""
        ...


class NetworkMasks:
    """Masks and class posteriors of a mask network's queries."""

    def __init__(self, folder: Path, prompts: PromptTensors, threads: int = 0) -> None:
        """Load the network of a folder (`network.json`).

        Args:
            folder: As `vl4ad train` or `vl4ad import-fcclip` wrote it.
            prompts: Packed prompt set of its text encoder.
            threads: CPU threads; 0 lets the library choose.

        Raises:
            Vl4adError: If there is no network, or the prompts are of another text encoder.
        """
        import torch

        from vl4ad_ros.network.checkpoint import load_network

        if threads:
            torch.set_num_threads(threads)
        self._network = load_network(folder)
        encoder = self._network.config.text_encoder
        if encoder != prompts.prompt_set.encoder_id:
            raise Vl4adError(
                f"The network in {folder} has the text encoder '{encoder}', the prompt set "
                f"'{prompts.prompt_set.name}' is of '{prompts.prompt_set.encoder_id}'."
            )
        self._inputs = [torch.from_numpy(array.copy()) for array in prompts.graph_inputs().values()]
        self._num_id = prompts.prompt_set.num_id

    def masks(self, image: NDArray[np.uint8]) -> tuple[Array, Array]:
        """See `Masks`."""
        import torch

        rows, columns = (max(round(side / 32), 1) * 32 for side in image.shape[:2])
        tensor = torch.from_numpy(cv2.resize(image, (columns, rows))[None])
        with torch.no_grad():
            prediction, weights = self._network.queries(tensor, *self._inputs[:4])
        return prediction.mask_logits[0].numpy(), weights[0, :, : self._num_id].numpy()


class DenseMasks:
    """Masks made from a dense bundle: one query per in-distribution column.

    Its mask is the column's own per-pixel posterior, s_i = p_i (mask logits log p_i / (1 - p_i)), its embedding is the
    text embedding of the column's first concept, so that c_i is Eq. 1 between texts.
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
        self._weights: Array = np.asarray(posterior, dtype=np.float32)

    def masks(self, image: NDArray[np.uint8]) -> tuple[Array, Array]:
        """See `Masks`."""
        card = self._detector.bundle.card
        step = card.input.multiple_of
        rows, columns = (max(round(side * card.stride / _QUARTER / step), 1) * step for side in image.shape[:2])
        inputs = {"image": cv2.resize(image, (columns, rows))[None], **self._prompts.graph_inputs()}
        (posterior,) = self._session.run([self._output], inputs)
        p = np.clip(posterior[0, ..., : self._num_id].transpose(2, 0, 1), 1e-6, 1 - 1e-6)
        return np.asarray(np.log(p / (1 - p)), dtype=np.float32), self._weights


def score_then_upsample(logits: Array, weights: Array, height: int, width: int) -> Array:
    """Eq. 2 at the masks' resolution, then one map to the image's size: float32 [height, width]."""
    return _resize(_eq_2(logits, weights), height, width)


def upsample_then_score(logits: Array, weights: Array, height: int, width: int) -> Array:
    """Every mask to the image's size, then Eq. 2: float32 [height, width]."""
    return _eq_2(np.stack([_resize(mask, height, width) for mask in logits]), weights)


def upsample_classes(logits: Array, weights: Array, height: int, width: int) -> Array:
    """The exported graph's default: the class maps to four times the masks' size, then one map to the image's size."""
    import torch

    from vl4ad_ros.network.image_score import score_of_resized_classes

    settings = torch.zeros(SETTINGS_SIZE)
    settings[1 + SCORINGS.index("vl4ad")] = 1
    class_mask = torch.ones(2, weights.shape[1])
    score = score_of_resized_classes(
        torch.from_numpy(logits)[None], torch.from_numpy(weights)[None], class_mask, settings
    )
    return _resize(score[0].numpy(), height, width)


def _eq_2(logits: Array, weights: Array) -> Array:
    masks = 1 / (1 + np.exp(-logits))
    return np.asarray(-np.einsum("nhw,nk->khw", masks, weights).max(axis=0), dtype=np.float32)


def _resize(plane: Array, height: int, width: int) -> Array:
    return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


EXACT = upsample_then_score
FORMS: tuple[Form, ...] = (EXACT, upsample_classes, score_then_upsample)


def compare_resolution(
    source: Masks,
    data: Path,
    layout: str,
    every: int = 1,
    sharpness: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure AP and FPR95 of all forms on the same frames.

    Args:
        source: Of the masks.
        data: Root of a data set.
        layout: One of `vl4ad_ros.evaluation.layouts.LAYOUTS`.
        every: Take every n-th frame.
        sharpness: Factor on the mask logits.
        progress: Called with (frames done, frames in all).

    Returns:
        `forms`: for each form by name `ap`, `fpr95` in percent, `ap_change` in points and `largest_change` of a pixel's
        score, both against resizing the masks; `frames`, `sharpness`.
    """
    if layout not in LAYOUTS:
        raise Vl4adError(f"Unknown data set: expected one of {sorted(LAYOUTS)}, got '{layout}'.")
    dataset = DatasetSource(data, LAYOUTS[layout])
    forms = {form.__name__: (form, PixelMetrics()) for form in FORMS}
    largest = dict.fromkeys(forms, 0.0)
    indices = range(0, len(dataset), every)
    for done, frame in enumerate(dataset.frames(indices), start=1):
        if frame.labels is None:
            continue
        logits, weights = source.masks(frame.image)
        logits = np.float32(sharpness) * logits
        exact: Array | None = None
        for name, (form, metrics) in forms.items():
            score = form(logits, weights, *frame.labels.shape)
            metrics.add(score, frame.labels)
            exact = score if exact is None else exact
            largest[name] = max(largest[name], float(np.abs(score - exact).max()))
        if progress is not None:
            progress(done, len(indices))
    figures: dict[str, Any] = {}
    for name, (_, metrics) in forms.items():
        result = metrics.result()
        figures[name] = {"ap": 100 * result.ap, "fpr95": 100 * result.fpr95, "largest_change": largest[name]}
    for figure in figures.values():
        figure["ap_change"] = figure["ap"] - figures[EXACT.__name__]["ap"]
    return {"forms": figures, "frames": len(indices), "sharpness": sharpness}
