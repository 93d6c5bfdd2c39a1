"""A mock network with an answer known on paper: the visual embedding of a pixel is its colour.

The text space is RGB: the mock encoder knows colour names, and a pixel's embedding is its normalised RGB vector,
sampled at every fourth row and column. So a pure red pixel has cosine 1 with "red", 0 with "green" and "blue", and with
the classes red and green at temperature T its Eq. 2 score is -1 / (1 + exp(-1/T)). Made with onnx.helper,
without torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from vl4ad_ros.prompts.compile import compile_prompt_set
from vl4ad_ros.prompts.schema import PromptSet
from vl4ad_ros.runtime.bundle import PROMPTS, BundleCard, InputSpec, write_card
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.runtime.prompt_tensors import PromptLimits

STRIDE = 4
LIMITS = PromptLimits(concepts=16, columns=8, concepts_per_column=4)
COLOURS = {
    "black": (0, 0, 0.001),
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "yellow": (1, 1, 0),
    "white": (1, 1, 1),
    "grey": (1, 1, 1),
    "magenta": (1, 0, 1),
}


class ColourEncoder:
    """The mock's text encoder: colour names to unit RGB vectors."""

    id = "mock:rgb"
    dim = 3

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        rows = np.array([COLOURS[text] for text in texts], dtype=np.float32)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def mock_prompt_sets() -> dict[str, PromptSet]:
    """Return `traffic`: red, green; `merged`: the two as one class; `traffic_ood`: blue as OOD; `greys`: grey alone."""
    two: dict[str, list[str]] = {"stop": ["red"], "go": ["green"]}
    return {
        "traffic": PromptSet(name="traffic", classes=two),
        "merged": PromptSet(name="merged", classes=two, superclasses={"light": ["stop", "go"]}, ood=["yellow"]),
        "traffic_ood": PromptSet(name="traffic_ood", classes=two, ood=["blue"]),
        "greys": PromptSet(name="greys", classes={"road": ["grey"]}, ood=["blue"], temperature=0.5),
    }


def compiled_set(name: str = "traffic") -> CompiledPromptSet:
    """Return one of them, compiled."""
    return compile_prompt_set(mock_prompt_sets()[name], ColourEncoder())


def mock_card(name: str, **fields: Any) -> BundleCard:
    """Return the card of a bundle in the mock's text space; `fields` stand in place of the mock's own, or beside."""
    own = {
        "input": InputSpec(height=64, width=96, multiple_of=STRIDE, resize="keep_aspect"), "stride": STRIDE,
        "text_encoder": ColourEncoder.id, "embedding_dim": ColourEncoder.dim, "prompt_limits": LIMITS,
        "temperature": 1.0, "default_prompt_set": "traffic", "licence": "Apache-2.0",
    }  # fmt: skip
    return BundleCard(**{"name": name, **own, **fields})


def mock_graph() -> onnx.ModelProto:
    """Build the graph: vl4ad, msp and max_logit as the contract has them; entropy and rba give 0."""

    def constant(name: str, value: object, dtype: type) -> onnx.TensorProto:
        return numpy_helper.from_array(np.asarray(value, dtype=dtype), name)

    node = helper.make_node
    nodes = [
        node("Slice", ["image", "starts", "ends", "axes", "steps"], ["sampled"]),
        node("Cast", ["sampled"], ["rgb"], to=TensorProto.FLOAT),
        node("Add", ["rgb", "tiny"], ["rgb_safe"]),
        node("ReduceL2", ["rgb_safe", "last"], ["norm"], keepdims=1),
        node("Div", ["rgb_safe", "norm"], ["v"]),
        node("Transpose", ["text_embeddings"], ["text_t"], perm=[1, 0]),
        node("MatMul", ["v", "text_t"], ["cosines"]),
        node("Gather", ["cosines", "class_concepts"], ["gathered"], axis=3),
        node("ReduceMax", ["gathered", "last"], ["columns"], keepdims=0),
        node("Split", ["settings", "split"], ["scale", "w_vl4ad", "w_msp", "w_max", "rest"]),
        node("Mul", ["columns", "scale"], ["logits"]),
        node("Split", ["class_mask"], ["part", "is_id"], axis=0, num_outputs=2),
        node("Sub", ["part", "one"], ["out"]),
        node("Mul", ["out", "big"], ["bias"]),
        node("Add", ["logits", "bias"], ["masked"]),
        node("Softmax", ["masked"], ["posterior"], axis=-1),
        node("Mul", ["posterior", "is_id"], ["id_posterior"]),
        node("ReduceMax", ["id_posterior", "last"], ["best"], keepdims=0),
        node("Sub", ["is_id", "one"], ["not_id"]),
        node("Mul", ["not_id", "big"], ["id_bias"]),
        node("Add", ["logits", "id_bias"], ["id_logits"]),
        node("ReduceMax", ["id_logits", "last"], ["best_logit"], keepdims=0),
        node("ReduceSum", ["id_posterior", "last"], ["known"], keepdims=0),
        node("Div", ["best", "known"], ["closed"]),
        node("Mul", ["best", "w_vl4ad"], ["a"]),
        node("Mul", ["closed", "w_msp"], ["b"]),
        node("Mul", ["best_logit", "w_max"], ["c"]),
        node("Sum", ["a", "b", "c"], ["sum"]),
        node("Neg", ["sum"], ["score"]),
    ]
    info = helper.make_tensor_value_info
    p, c, length = LIMITS.concepts, LIMITS.columns, LIMITS.concepts_per_column
    graph = helper.make_graph(
        nodes,
        "mock",
        [
            info("image", TensorProto.UINT8, ["batch", "height", "width", 3]),
            info("text_embeddings", TensorProto.FLOAT, [p, 3]),
            info("class_concepts", TensorProto.INT32, [c, length]),
            info("class_mask", TensorProto.FLOAT, [2, c]),
            info("settings", TensorProto.FLOAT, [8]),
        ],
        [info("score", TensorProto.FLOAT, ["batch", "rows", "columns"])],
        [
            constant("starts", [0, 0], np.int64),
            constant("ends", [1 << 30, 1 << 30], np.int64),
            constant("axes", [1, 2], np.int64),
            constant("steps", [STRIDE, STRIDE], np.int64),
            constant("last", [-1], np.int64),
            constant("split", [1, 1, 1, 1, 4], np.int64),
            constant("tiny", 1e-6, np.float32),
            constant("one", 1, np.float32),
            constant("big", 1e4, np.float32),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def write_mock_bundle(path: Path, prompt_sets: Mapping[str, PromptSet] | None = None) -> Path:
    """Write the mock network as a bundle with compiled prompt sets; return its folder."""
    (path / PROMPTS).mkdir(parents=True)
    onnx.save(mock_graph(), str(path / "model.onnx"))
    for name, prompt_set in (prompt_sets or mock_prompt_sets()).items():
        compile_prompt_set(prompt_set, ColourEncoder()).save(path / PROMPTS / f"{name}.safetensors")
    first = next(iter(prompt_sets or mock_prompt_sets()))
    write_card(path, mock_card("mock", description="Mock network for tests", default_prompt_set=first))
    return path


def red_uncertainty(temperature: float = 1.0) -> float:
    """On paper: the published uncertainty of a pure red pixel under `traffic`."""
    return 1 - 1 / (1 + math.exp(-1 / temperature))
