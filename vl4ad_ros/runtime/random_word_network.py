"""The trained network: a feed-forward head on unit embeddings, its card, and its form as graph inputs (NumPy only)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import sha256_file, sha256_text
from vl4ad_ros.runtime.tensor_files import load_tensors, save_tensors

FORMAT = "vl4ad_ros.random_word/1"
GRAPH_HIDDEN = 64
"""Hidden units of the graph's inputs; smaller networks are padded with zeros, which is exact."""
GRAPH_ROWS = "random_word_rows"
GRAPH_HEAD = "random_word_head"
DEFAULT = "default"
_TENSORS = ("w1", "b1", "w2", "b2", "shift", "text_means")


def graph_shapes(dim: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the inputs that a graph with this method has behind the usual ones, by name, in order."""
    return {GRAPH_ROWS: (GRAPH_HIDDEN + 1, dim), GRAPH_HEAD: (3, GRAPH_HIDDEN + 1)}


@dataclass(frozen=True, eq=False)
class RandomWordNetwork:
    """p(anomalous) = sigmoid(w2 . relu(W1^T x + b1) + b2) with x = normalise(v + shift), v a unit embedding."""

    w1: NDArray[np.float32]  # float32 [D, H]
    b1: NDArray[np.float32]  # float32 [H]
    w2: NDArray[np.float32]  # float32 [H]
    b2: NDArray[np.float32]  # float32 [1]
    # float32 [D], added to visual embeddings to bring their cloud onto the texts'; zero for texts.
    shift: NDArray[np.float32]
    # float32 [2, D], mean embedding of the normal and of the anomalous training prompts.
    text_means: NDArray[np.float32]
    encoder_id: str  # the text encoder in whose space the network lives
    # What the network was made from and how it validated, as plain data for JSON.
    card: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""  # of the file that it was read from, without the suffix; empty for one made here
    sha256: str = ""  # of that file's content; empty likewise

    def __post_init__(self) -> None:
        shapes = {name: np.shape(getattr(self, name)) for name in _TENSORS}
        dim, hidden = shapes["w1"] if len(shapes["w1"]) == 2 else (0, 0)
        expected = {"w1": (dim, hidden), "b1": (hidden,), "w2": (hidden,), "b2": (1,)}
        expected |= {"shift": (dim,), "text_means": (2, dim)}
        if shapes != expected or 0 in (dim, hidden):
            raise Vl4adError(f"The random-word network is damaged: its tensors have the shapes {shapes}.")
        for name in _TENSORS:
            array = getattr(self, name)
            if array.dtype != np.float32 or not np.isfinite(array).all():
                raise Vl4adError(f"The random-word network is damaged: {name} is not finite float32.")
            array.setflags(write=False)

    @property
    def dim(self) -> int:
        """D, the length of an embedding."""
        return int(self.w1.shape[0])

    @property
    def version(self) -> str:
        """A short hash of the encoder and the weights: equal exactly where the network acts alike."""
        content = "|".join(getattr(self, name).astype("<f4").tobytes().hex() for name in _TENSORS)
        return sha256_text(f"{self.encoder_id}|{self.w1.shape}|{content}")[:12]

    def summary(self) -> dict[str, str]:
        """Return what identifies the network, as plain data for JSON."""
        return {"name": self.name, "version": self.version, "sha256": self.sha256}

    def probability(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return p(anomalous) in [0, 1] of unit embeddings [..., D]: float32 [...]."""
        moved = embeddings + self.shift
        moved = moved / np.maximum(np.linalg.norm(moved, axis=-1, keepdims=True), 1e-6)
        logits = np.maximum(moved @ self.w1 + self.b1, 0) @ self.w2 + self.b2[0]
        return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits), dtype=np.float32)  # tanh does not overflow

    def with_shift(self, shift: NDArray[np.float32], note: Mapping[str, Any]) -> RandomWordNetwork:
        """Return the network with another shift of the visual embeddings, `note` on its card under `gap`."""
        moved = np.asarray(shift, dtype=np.float32)
        return replace(self, shift=moved, card={**self.card, "gap": dict(note)}, name="", sha256="")

    def graph_inputs(self) -> dict[str, NDArray[np.float32]]:
        """Return the network as inputs of the graph; see `vl4ad_ros.network.score_graph`.

        `random_word_rows` float32 [GRAPH_HIDDEN + 1, D]: rows whose dot products with v the graph needs (W1^T, then the
        shift); `random_word_head` float32 [3, GRAPH_HIDDEN + 1]: their offsets (W1^T shift; |shift|^2), the biases (b1;
        b2) and the output weights (w2; 0).
        """
        hidden = self.w1.shape[1]
        if hidden > GRAPH_HIDDEN:
            raise Vl4adError(
                f"The random-word network has {hidden} hidden units, the graph takes at most {GRAPH_HIDDEN}."
            )
        rows, head = (np.zeros(shape, dtype=np.float32) for shape in graph_shapes(self.dim).values())
        rows[:hidden], rows[-1] = self.w1.T, self.shift
        head[0, :hidden], head[0, -1] = self.shift @ self.w1, self.shift @ self.shift
        head[1, :hidden], head[1, -1] = self.b1, self.b2[0]
        head[2, :hidden] = self.w2
        for array in (rows, head):
            array.setflags(write=False)
        return {GRAPH_ROWS: rows, GRAPH_HEAD: head}

    def save(self, path: str | Path) -> None:
        """Write the network as safetensors, the card in its metadata; as a whole or not at all."""
        meta = {"format": FORMAT, "text_encoder": self.encoder_id, "card": dict(self.card)}
        save_tensors(path, {name: getattr(self, name) for name in _TENSORS}, meta)


def load_network(path: str | Path) -> RandomWordNetwork:
    """Read a network."""
    tensors, meta = load_tensors(path, FORMAT, "random-word network", "vl4ad random-word train")
    own: dict[str, Any] = {"encoder_id": meta.get("text_encoder"), "card": meta.get("card")}
    try:
        return RandomWordNetwork(**tensors, **own, name=Path(path).stem, sha256=sha256_file(path))
    except TypeError as error:
        raise Vl4adError(f"{path}: cannot be read as a random-word network ({error}).") from error


def untrained_network(dim: int, encoder_id: str, seed: int = 0) -> RandomWordNetwork:
    """Return a network with random weights and shift whose probabilities spread over [0, 1]: for checks of graphs."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int, scale: float = 1.0) -> NDArray[np.float32]:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    return RandomWordNetwork(
        w1=draw(dim, GRAPH_HIDDEN),
        b1=draw(GRAPH_HIDDEN, scale=0.3),
        w2=draw(GRAPH_HIDDEN, scale=0.5),
        b2=draw(1, scale=0.3),
        shift=draw(dim, scale=0.5 / dim**0.5),
        text_means=draw(2, dim),
        encoder_id=encoder_id,
        card={"kind": "untrained"},
    )


def cosine_network(text_means: NDArray[np.float32], temperature: float, encoder_id: str) -> RandomWordNetwork:
    """Return prompt-guided cosine scoring (as in WinCLIP) as a network, so that it runs wherever one runs.

    softmax over [cos(v, normal), cos(v, anomalous)] / T equals sigmoid((anomalous - normal) . v / T), and a linear map
    is the difference of two rectified ones. `text_means` float32 [2, D], normal and anomalous, are normalised here.
    """
    normal, anomalous = text_means / np.linalg.norm(text_means, axis=1, keepdims=True)
    direction = np.asarray(anomalous - normal, dtype=np.float32)
    return RandomWordNetwork(
        w1=np.stack([direction, -direction], axis=1),
        b1=np.zeros(2, dtype=np.float32),
        w2=np.asarray([1 / temperature, -1 / temperature], dtype=np.float32),
        b2=np.zeros(1, dtype=np.float32),
        shift=np.zeros_like(direction),
        text_means=np.asarray(text_means, dtype=np.float32),
        encoder_id=encoder_id,
        card={"kind": "prompt-guided cosine", "temperature": temperature},
    )
