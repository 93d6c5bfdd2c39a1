"""Which concepts a pixel of a dense network is near to, and which class explains it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.score_reference import class_posterior, column_cosines
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.prompt_tensors import PromptTensors

_EMBED, _TO_TEXT = "network.embed.weight", "network.to_text.weight"
# As in `SmallNetwork.cosines`.
_NORM_FLOOR = 1e-6


def load_graph(bundle: ModelBundle) -> tuple[Any, dict[str, NDArray[Any]]]:
    """Return a bundle's ONNX model, and its constants by name."""
    try:
        import onnx.numpy_helper
    except ImportError as error:
        raise Vl4adError(f"This needs the onnx package ({error}); get it with: pip install onnx.") from error
    model = onnx.load(str(bundle.onnx_path))
    return model, {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}


def pixel_span(bundle: ModelBundle) -> NDArray[np.float32] | None:
    """Return an orthonormal basis [D, r] of what a dense network's pixels W e can be; None for other networks."""
    weight = load_graph(bundle)[1].get(_TO_TEXT)
    return None if weight is None else np.linalg.qr(weight.astype(np.float64))[0].astype(np.float32)


@dataclass(frozen=True)
class NearConcept:
    """A concept near a pixel."""

    concept: str
    column: str  # the class or OOD concept that it belongs to
    known: bool  # whether that is an in-distribution class
    cosine: float  # of the pixel's embedding and the concept's, [-1, 1]


@dataclass(frozen=True)
class Explanation:
    """Why a pixel, or the mean over some pixels, has its score."""

    concepts: tuple[NearConcept, ...]  # the nearest concepts, nearest first
    explained_by: str  # the in-distribution class with the largest posterior
    posterior: float  # of that class (Eq. 1), [0, 1].
    void: float  # posterior of the learned void vector, [0, 1]
    uncertainty: float  # 1 - posterior: Eq. 2 of a dense network, as it is published.
    missing_cosine: float  # how much nearer the class would have to be to end the alarm; 0 where there is none

    def sentences(self, threshold: float) -> list[str]:
        """Return the figures in words, with a mask's threshold in [0, 1]."""
        alarm = self.uncertainty >= threshold
        lines = [
            f"uncertainty {self.uncertainty:.3f}, threshold {threshold:.3f}: {'an anomaly' if alarm else 'normal'}",
            f"best explained by '{self.explained_by}' ({self.posterior:.3f}); by no class (void): {self.void:.3f}",
        ]
        if alarm:
            lines.append(
                f"the alarm would end if a concept of '{self.explained_by}' were nearer by {self.missing_cosine:.3f}"
            )
        return lines


class PixelExplainer:
    """A dense network's graph up to its embeddings, made once for a picture, and their cosines with any concepts."""

    def __init__(self, bundle: ModelBundle) -> None:
        """Cut the graph."""
        model, constants = load_graph(bundle)
        import onnx.utils
        import onnxruntime as ort

        embeddings = [node.output[0] for node in model.graph.node if _EMBED in node.input]
        if len(embeddings) != 1 or _TO_TEXT not in constants:
            raise Vl4adError(
                f"Bundle '{bundle.card.name}' has no embedding of each pixel; only dense networks can be explained."
            )
        part = onnx.utils.Extractor(model).extract_model(["image"], embeddings)
        # Nothing of the graph's own but its first half is loaded.
        self._session: Any = ort.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])
        # [D, E]: from the pixel's space to that of the texts.
        self._to_text = np.asarray(constants[_TO_TEXT], dtype=np.float32)
        self._gram = self._to_text.T @ self._to_text
        dim = bundle.card.embedding_dim
        rows = [value for value in constants.values() if value.shape == (1, dim)]
        self._void = np.asarray(rows[0], np.float32) if len(rows) == 1 else None

    def embed(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """RGB uint8 [H, W, 3], as `Detector.preprocess` gives it -> its embeddings, float32 [H/8, W/8, E]."""
        (embedding,) = self._session.run(None, {"image": image[None]})
        return np.ascontiguousarray(embedding[0].transpose(1, 2, 0), dtype=np.float32)

    @staticmethod
    def in_box(
        embedding: NDArray[np.float32], box: tuple[int, int, int, int], size: tuple[int, ...]
    ) -> NDArray[np.float32]:
        """Return the embeddings, float32 [n >= 1, E], in a box: first column and row, the ones behind the last."""
        rows, columns = embedding.shape[:2]
        x0, x1 = (np.array([box[0], box[2] - 1]) * columns // size[1]).tolist()
        y0, y1 = (np.array([box[1], box[3] - 1]) * rows // size[0]).tolist()
        return embedding[y0 : y1 + 1, x0 : x1 + 1].reshape(-1, embedding.shape[2])

    def cosines(self, embedding: NDArray[np.float32], text: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return cos(W e, t) of embeddings [..., E] and unit rows [P, D]: float32 [..., P] in [-1, 1]."""
        squared = np.einsum("...i,ij,...j->...", embedding, self._gram, embedding)
        dots = embedding @ (text @ self._to_text).T
        return np.asarray(dots / np.sqrt(squared + _NORM_FLOOR)[..., None], dtype=np.float32)

    def explain(
        self, embedding: NDArray[np.float32], prompts: PromptTensors, threshold: float, count: int = 8
    ) -> Explanation:
        """Explain one pixel, or the mean of several: float32 [E] or [n, E]; the mask's threshold is in [0, 1]."""
        compiled, temperature = prompts.prompt_set, prompts.temperature
        cosines = self.cosines(np.atleast_2d(embedding), compiled.embeddings)
        void = None if self._void is None else self.cosines(np.atleast_2d(embedding), self._void)[:, 0]
        columns = column_cosines(cosines, compiled.concept_column, len(compiled.columns))
        posterior = class_posterior(columns, temperature, void).mean(axis=0)
        best = int(posterior[: compiled.num_id].argmax())
        mean, own = cosines.mean(axis=0), float(posterior[best])
        nearest = tuple(
            NearConcept(
                compiled.concepts[row],
                compiled.columns[compiled.concept_column[row]],
                bool(compiled.concept_column[row] < compiled.num_id),
                float(mean[row]),
            )
            for row in np.argsort(-mean)[:count]
        )
        uncertainty = 1 - own
        missing = 0.0
        if uncertainty >= threshold > 0:
            # posterior = 1 / (1 + rest / evidence): raising the cosine by d multiplies the evidence by exp(d / T).
            odds = np.log(max(1 - threshold, 1e-9) / threshold) - np.log(max(own, 1e-9) / max(1 - own, 1e-9))
            missing = max(0.0, float(odds) * temperature)
        return Explanation(
            nearest,
            compiled.columns[best],
            own,
            float(1 - posterior.sum()) if void is not None else 0.0,
            uncertainty,
            missing,
        )
