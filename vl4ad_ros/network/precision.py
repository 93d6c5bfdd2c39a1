"""Mixed precision: a float32 graph becomes one whose heavy operators work in float16 (docs/tensorrt.md).

The converter is ONNX Runtime's. What it must leave alone is decided here: softmax and logarithms, norms and their sums,
the score, and what computes where deformable attention samples. TensorRT's strongly typed networks take precision from
the graph alone, so this is also how an engine gets to float16.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.onnx_files import external_data
from vl4ad_ros.network.onnx_export import run_onnx, save_onnx
from vl4ad_ros.runtime.bundle import PROMPTS, ModelBundle, write_card
from vl4ad_ros.runtime.graph_compare import TOLERANCES, compare, every_setting, noise_batches

FLOAT32_OPERATORS: tuple[str, ...] = (
    # exponentials and logarithms
    "Softmax", "LogSoftmax", "Exp", "Log",
    # norms, and what they are made of where they are not one operator
    "LayerNormalization", "InstanceNormalization", "GroupNormalization", "BatchNormalization",
    "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare", "Pow", "Sqrt", "Reciprocal",
    # positions, which float16 counts exactly only to 2048
    "GridSample", "CumSum", "Range", "Sin", "Cos",
    # smallest divisors, which float16 would round to zero
    "Clip",
)  # fmt: skip

_HEAVY = ("MatMul", "Gemm", "Conv", "ConvTranspose")


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the mixed-precision form of a float32 graph below 2 GB; inputs and output keep their types."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for index, node in enumerate(copy.graph.node):
        # The converter knows nodes by name.
        node.name = node.name or f"{node.op_type}_{index}"
    kept = [*_positions(copy), *_score_stage(copy)]
    try:
        with warnings.catch_warnings():
            # It warns of each weight that float16 rounds to zero or infinity; the comparison afterwards tells.
            warnings.simplefilter("ignore")
            converted: onnx.ModelProto = convert_float_to_float16(
                copy, keep_io_types=True, op_block_list=list(FLOAT32_OPERATORS), node_block_list=kept
            )
    except (ValueError, TypeError) as error:
        raise Vl4adError(f"The graph cannot be converted to float16 ({error}).") from error
    # The converter writes one cast for each reader, all of one name, which ONNX forbids.
    nodes = list({node.output[0]: node for node in converted.graph.node}.values())
    del converted.graph.node[:]
    converted.graph.node.extend(nodes)
    # Between two float32 nodes it rounds to float16 and back, which would lose what they are kept for.
    tool = OnnxModel(converted)
    tool.remove_cascaded_cast_nodes()
    tool.remove_useless_cast_nodes()
    tool.topological_sort()
    del converted.graph.value_info[:]  # of tensors that have changed or gone
    return converted


def _positions(model: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes between the last heavy operator and the grid of every GridSample."""
    maker = {output: node for node in model.graph.node for output in node.output}
    pending = [maker[n.input[1]] for n in model.graph.node if n.op_type == "GridSample" and n.input[1] in maker]
    found: set[str] = set()
    while pending:
        node = pending.pop()
        if node.name in found or node.op_type in _HEAVY:
            continue
        found.add(node.name)
        pending += [maker[name] for name in node.input if name in maker]
    return found


def _score_stage(model: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes that work with a prompt input: cosines, temperature, softmax, score.

    Small beside the network, and a cosine's rounding is multiplied by 1/T, 100 for CLIP.
    """
    reached = {value.name for value in model.graph.input} - {"image"}
    found: set[str] = set()
    for node in model.graph.node:
        if reached.intersection(node.input):
            found.add(node.name)
            reached.update(node.output)
    return found


def float16_share(model: onnx.ModelProto) -> float:
    """Return the share of the heavy operators (convolutions, matrix products) that work in float16, 0 to 1."""
    model = onnx.shape_inference.infer_shapes(model)
    half = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}
    half |= {v.name for v in model.graph.value_info if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16}
    heavy = [node for node in model.graph.node if node.op_type in _HEAVY]
    return sum(any(name in half for name in node.input) for node in heavy) / max(len(heavy), 1)


def write_float16_bundle(
    source: ModelBundle, folder: str | Path, name: str | None = None, tolerance: float = TOLERANCES["float16"]
) -> ModelBundle:
    """Write the mixed-precision form of a bundle into a new folder; its name is by default the source's with `-fp16`.

    It is compared with the float32 one in ONNX Runtime on the CPU, to a `tolerance` of the published map; the card
    carries the error (`scores.float16_check`).
    """
    folder = Path(folder)
    card = source.card
    if card.precision != "float32":
        raise Vl4adError(f"Bundle '{card.name}' is {card.precision} already; convert a float32 one.")
    if folder.exists() and any(folder.iterdir()):
        raise Vl4adError(f"{folder} is not empty; name a new folder for the float16 bundle.")
    (folder / PROMPTS).mkdir(parents=True)
    graph = folder / card.onnx
    half = to_float16(onnx.load(str(source.onnx_path)))
    save_onnx(half, graph)
    check = compare(
        lambda i, p: run_onnx(source.onnx_path, i, p),
        lambda i, p: run_onnx(graph, i, p),
        every_setting(source.load_prompt_set(), card),
        noise_batches(card.input, batch=1),
    )
    if not check["max_abs_error"] <= tolerance:
        shutil.rmtree(folder)
        raise Vl4adError(
            f"In float16 the published map of '{check['worst']}' differs by {check['max_abs_error']:.2g} "
            f"(at most {tolerance:.2g} is accepted)."
        )
    replaced = {card.onnx, *external_data(source.onnx_path)}
    carried = [file for file in card.sha256 if file not in replaced and not file.startswith("network/")]
    for file in carried:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.path / file, folder / file)
    against = {
        "against": "the float32 graph in ONNX Runtime, CPU",
        "float32_sha256": source.onnx_sha256,
        "heavy_operators_in_float16": round(float16_share(half), 3),
    }
    update = {
        "name": name or f"{card.name}-fp16",
        "precision": "float16",
        "scores": {**card.scores, "float16_check": {**against, **check}},
        "sha256": dict.fromkeys(carried, ""),
    }
    return ModelBundle(folder, write_card(folder, card.model_copy(update=update)))
