"""One ONNX graph from the uint8 image and the prompt inputs to the score (docs/tensorrt.md)."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx_ir.passes.common import ClearMetadataAndDocStringPass

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import InputSpec
from vl4ad_ros.runtime.engine import GRAPH_OUTPUT
from vl4ad_ros.runtime.prompt_tensors import PromptLimits, PromptTensors
from vl4ad_ros.runtime.random_word_network import graph_shapes as random_word_shapes
from vl4ad_ros.runtime.scores import SETTINGS_SIZE

OPSET = 18
"""The first opset whose GridSample, LayerNormalization and Resize every runtime here knows."""

_PROTOBUF_LIMIT = 2**31 - 2**20


def export_onnx(
    network: torch.nn.Module,
    path: str | Path,
    spec: InputSpec,
    embedding_dim: int,
    limits: PromptLimits,
    random_word: bool = False,
) -> None:
    """Export a network with the graph contract to one ONNX file, checked by `onnx.checker`.

    The network is in eval mode; called with image uint8 [B, H, W, 3], text_embeddings [P, D], class_concepts int32 [C,
    L], class_mask [2, C], settings [9] (and with `random_word` the two inputs of `vl4ad_ros.network.score_graph`)
    it returns the score [B, h, w]. It casts the image before it transposes it: TensorRT transposes no uint8. The batch
    is dynamic; height and width are, too, where `spec.resize` is `keep_aspect`. The exporter's notes on every node
    (they hold file names of the machine that exported) are not in the file.
    """
    if network.training:
        raise Vl4adError("The network is in training mode: call eval() before the export.")
    dynamic = {0: "batch", 1: "height", 2: "width"} if spec.resize == "keep_aspect" else {0: "batch"}
    # Two pictures: a batch of one would be taken for a constant.
    inputs = {
        "image": torch.zeros((2, spec.height, spec.width, 3), dtype=torch.uint8),
        "text_embeddings": torch.zeros((limits.concepts, embedding_dim)),
        "class_concepts": torch.zeros((limits.columns, limits.concepts_per_column), dtype=torch.int32),
        "class_mask": torch.ones((2, limits.columns)),
        "settings": torch.ones(SETTINGS_SIZE),
    }
    if random_word:
        inputs |= {name: torch.zeros(shape) for name, shape in random_word_shapes(embedding_dim).items()}
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                network,
                tuple(inputs.values()),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=[GRAPH_OUTPUT],
                dynamic_shapes=(dynamic, *(None for _ in list(inputs)[1:])),
                external_data=False,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = " ".join(str(error).split("## Exception summary")[-1].split())
        raise Vl4adError(f"The network cannot be exported to ONNX: {reason[:500]}") from error
    if program is None:
        raise Vl4adError("The exporter of this PyTorch returned no program; this needs torch 2.9 or later.")
    ClearMetadataAndDocStringPass()(program.model)
    graph = program.model.graph
    for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
        value.metadata_props.clear()
    model = onnx_ir.to_proto(program.model)
    save_onnx(model, path)
    check_contract(model, inputs)


def save_onnx(model: onnx.ModelProto, path: str | Path) -> None:
    """Write a graph, then check it with `onnx.checker` (shapes inferred and compared)."""
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


def check_contract(model: onnx.ModelProto, inputs: Iterable[str]) -> None:
    """Check that a graph uses every input, gives the score, and does nothing that TensorRT would refuse."""
    graph = model.graph
    unused = set(inputs) - {name for node in graph.node for name in node.input}
    if unused:
        raise Vl4adError(f"The graph does not use the inputs {sorted(unused)}; a network must use every prompt input.")
    (score,) = graph.output
    if len(score.type.tensor_type.shape.dim) != 3 or score.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise Vl4adError("The network's output is no score: expected float32 [batch, h, w].")
    for node in graph.node:
        if node.op_type not in ("Cast", "Shape") and "image" in node.input:
            raise Vl4adError(f"{node.op_type} works on the uint8 image; TensorRT needs it cast to float first.")


def run_onnx(path: str | Path, images: NDArray[np.uint8], prompts: PromptTensors) -> NDArray[np.float32]:
    """Run a graph once in ONNX Runtime on the CPU: uint8 [B, H, W, 3] -> score float32 [B, h, w]."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (score,) = session.run([GRAPH_OUTPUT], {"image": images, **prompts.graph_inputs()})
    return np.asarray(score, dtype=np.float32)


def run_torch(network: torch.nn.Module, images: NDArray[np.uint8], prompts: PromptTensors) -> NDArray[np.float32]:
    """Run a network once in eager torch, on its own device: uint8 [B, H, W, 3] -> score float32 [B, h, w]."""
    device = next(network.parameters()).device
    # torch warns about arrays that may not be written to; it does not write here.
    inputs = [torch.from_numpy(np.array(a)).to(device) for a in (images, *prompts.graph_inputs().values())]
    with torch.no_grad():
        return np.asarray(network(*inputs).float().cpu().numpy(), dtype=np.float32)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the exporter's notes to its own developers."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
