"""One ONNX graph from the uint8 image and the prompt inputs to the score (docs/tensorrt.md)."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import InputSpec
from vl4ad_ros.runtime.engine import GRAPH_INPUTS, GRAPH_OUTPUT
from vl4ad_ros.runtime.prompt_tensors import PromptLimits, PromptTensors
from vl4ad_ros.runtime.random_word_network import graph_shapes as random_word_shapes
from vl4ad_ros.runtime.scores import SETTINGS_SIZE

if TYPE_CHECKING:
    import torch

OPSET = 18
"""The first opset whose GridSample, LayerNormalization and Resize every runtime here knows."""

_BATCH, _HEIGHT, _WIDTH = "batch", "height", "width"
_PROTOBUF_LIMIT = 2**31 - 2**20


def export_onnx(
    network: torch.nn.Module,
    path: str | Path,
    spec: InputSpec,
    embedding_dim: int,
    limits: PromptLimits,
    opset: int = OPSET,
    random_word: bool = False,
) -> None:
    """Export a network with the graph contract to one ONNX file, checked by `onnx.checker`.

    The batch is dynamic; height and width are, too, where `spec.resize` is `keep_aspect`. Weights are inside the file;
    the exporter's notes on every node (they hold file names of the machine that exported) are not.

    Args:
        network: In eval mode; called with image uint8 [B, H, W, 3], text_embeddings [P, D], class_concepts int32
            [C, L], class_mask [2, C], settings [8]; returns the score [B, h, w] (docs/tensorrt.md). It casts the image
            before it transposes it: TensorRT transposes no uint8.
        path: File to write.
        spec: The input size.
        embedding_dim: D.
        limits: P, C and L.
        opset: ONNX opset, >= 18.
        random_word: Whether the graph gets the random-word method: the network then takes two more inputs
            (`vl4ad_ros.network.random_word_graph`).

    Raises:
        Vl4adError: If the network cannot be exported, the graph is larger than ONNX's 2 GB, or breaks the contract.
    """
    import torch

    if network.training:
        raise Vl4adError("The network is in training mode: call eval() before the export.")
    dynamic = {0: _BATCH, 1: _HEIGHT, 2: _WIDTH} if spec.resize == "keep_aspect" else {0: _BATCH}
    # Two pictures: a batch of one would be taken for a constant.
    arguments: tuple[torch.Tensor, ...] = (
        torch.zeros((2, spec.height, spec.width, 3), dtype=torch.uint8),
        torch.zeros((limits.concepts, embedding_dim)),
        torch.zeros((limits.columns, limits.concepts_per_column), dtype=torch.int32),
        torch.ones((2, limits.columns)),
        torch.ones(SETTINGS_SIZE),
    )
    names = GRAPH_INPUTS
    if random_word:
        arguments += tuple(torch.zeros(shape) for shape in random_word_shapes(embedding_dim).values())
        names += tuple(random_word_shapes(embedding_dim))
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                network,
                arguments,
                dynamo=True,
                opset_version=opset,
                input_names=list(names),
                output_names=[GRAPH_OUTPUT],
                dynamic_shapes=(dynamic, *(None for _ in names[1:])),
                external_data=False,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = " ".join(str(error).split("## Exception summary")[-1].split())
        raise Vl4adError(f"The network cannot be exported to ONNX: {reason[:500]}") from error
    if program is None:
        raise Vl4adError("The exporter of this PyTorch returned no program; this needs torch 2.9 or later.")
    save_onnx(program.model_proto, path)
    check_contract(path, spec, embedding_dim, limits, random_word)


def save_onnx(model: onnx.ModelProto, path: str | Path) -> None:
    """Write a graph without the exporter's notes, then check it with `onnx.checker` (shapes inferred and compared).

    Raises:
        Vl4adError: If the graph is larger than one ONNX file can be, or the checker refuses it.
    """
    for graph in _graphs(model.graph):
        for item in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
            del item.metadata_props[:]
            item.doc_string = ""
    del model.functions[:]
    if model.ByteSize() > _PROTOBUF_LIMIT:
        raise Vl4adError(
            f"The graph has {model.ByteSize() / 2**30:.1f} GB, more than the 2 GB that one ONNX file can hold: "
            "export it in float16."
        )
    onnx.save(model, str(path))
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise Vl4adError(f"{path}: onnx.checker refuses the graph ({error}).") from error


def check_contract(
    path: str | Path, spec: InputSpec, embedding_dim: int, limits: PromptLimits, random_word: bool = False
) -> None:
    """Check names, types and sizes of a graph's inputs and output, and what TensorRT would refuse.

    Raises:
        Vl4adError: One sentence that names what differs.
    """
    model = onnx.load(str(path), load_external_data=False)
    size = (_HEIGHT, _WIDTH) if spec.resize == "keep_aspect" else (spec.height, spec.width)
    expected: dict[str, tuple[int, tuple[int | str, ...]]] = {
        "image": (onnx.TensorProto.UINT8, (_BATCH, *size, 3)),
        "text_embeddings": (onnx.TensorProto.FLOAT, (limits.concepts, embedding_dim)),
        "class_concepts": (onnx.TensorProto.INT32, (limits.columns, limits.concepts_per_column)),
        "class_mask": (onnx.TensorProto.FLOAT, (2, limits.columns)),
        "settings": (onnx.TensorProto.FLOAT, (SETTINGS_SIZE,)),
    }
    if random_word:
        shapes = random_word_shapes(embedding_dim)
        expected |= {name: (onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    found = {value.name: _type_and_shape(value) for value in model.graph.input}
    used = {name for graph in _graphs(model.graph) for node in graph.node for name in node.input}
    for name, wanted in expected.items():
        if name not in found or name not in used:
            raise Vl4adError(
                f"{path}: the graph does not use the input '{name}'; the network must use every prompt input."
            )
        if found[name] != wanted:
            raise Vl4adError(f"{path}: input '{name}' is {_words(found[name])}, expected {_words(wanted)}.")
    if len(found) != len(expected):
        raise Vl4adError(f"{path}: the graph has unexpected inputs {sorted(set(found) - set(expected))}.")
    outputs = {value.name: _type_and_shape(value) for value in model.graph.output}
    if set(outputs) != {GRAPH_OUTPUT}:
        raise Vl4adError(f"{path}: the graph's outputs are {sorted(outputs)}, expected ['{GRAPH_OUTPUT}'].")
    kind, shape = outputs[GRAPH_OUTPUT]
    if kind != onnx.TensorProto.FLOAT or len(shape) != 3 or shape[0] != _BATCH:
        raise Vl4adError(f"{path}: the score is {_words((kind, shape))}, expected float32 [batch, h, w].")
    for node in model.graph.node:
        if node.op_type not in ("Cast", "Shape") and "image" in node.input:
            raise Vl4adError(f"{path}: {node.op_type} works on the uint8 image; TensorRT needs it cast to float first.")


def run_onnx(path: str | Path, images: NDArray[np.uint8], prompts: PromptTensors) -> NDArray[np.float32]:
    """Run a graph once in ONNX Runtime on the CPU: uint8 [B, H, W, 3] -> score float32 [B, h, w]."""
    import onnxruntime as ort

    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (score,) = session.run([GRAPH_OUTPUT], {"image": images, **prompts.graph_inputs()})
    return np.asarray(score, dtype=np.float32)


def run_torch(network: torch.nn.Module, images: NDArray[np.uint8], prompts: PromptTensors) -> NDArray[np.float32]:
    """Run a network once in eager torch, on its own device: uint8 [B, H, W, 3] -> score float32 [B, h, w]."""
    import torch

    device = next(network.parameters()).device
    # torch warns about arrays that may not be written to; it does not write here.
    inputs = [torch.from_numpy(np.array(a)).to(device) for a in (images, *prompts.graph_inputs().values())]
    with torch.no_grad():
        return np.asarray(network(*inputs).float().cpu().numpy(), dtype=np.float32)


def _graphs(graph: Any) -> Iterator[Any]:
    """Yield a graph and every graph inside its nodes (branches, loops)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _graphs(inner)


def _type_and_shape(value: Any) -> tuple[int, tuple[int | str, ...]]:
    tensor = value.type.tensor_type
    return tensor.elem_type, tuple(d.dim_param or d.dim_value for d in tensor.shape.dim)


def _words(kind: tuple[int, tuple[int | str, ...]]) -> str:
    return f"{onnx.TensorProto.DataType.Name(kind[0]).lower()} {list(kind[1])}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the exporter's notes to its own developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
