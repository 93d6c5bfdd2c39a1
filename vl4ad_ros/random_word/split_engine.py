"""Many prompt sets and networks on the same images: the part of the graph that sees the image alone runs once.

What a graph computes from the image without its prompts (the backbone and the pixels' embeddings) is most of its work.
The graph is cut there into two, at run time; the second half then runs for each set of prompts. (Needs `onnx`.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.engine import GRAPH_OUTPUT, EngineInfo, check_images
from vl4ad_ros.runtime.prompt_tensors import PromptTensors

IMAGE = "image"
_TYPES = {
    "tensor(float)": onnx.TensorProto.FLOAT,
    "tensor(float16)": onnx.TensorProto.FLOAT16,
    "tensor(int64)": onnx.TensorProto.INT64,
    "tensor(int32)": onnx.TensorProto.INT32,
    "tensor(bool)": onnx.TensorProto.BOOL,
}


@dataclass(frozen=True)
class Halves:
    """A graph that was cut where the prompts come in.

    Attributes:
        first: Nodes that depend on the image alone.
        second: The others.
        border: Names that go from the first half (or the image itself) into the second.
    """

    first: list[onnx.NodeProto]
    second: list[onnx.NodeProto]
    border: list[str]


def cut(graph: onnx.GraphProto) -> Halves:
    """Cut a graph with the input `image` and others."""
    of_prompts = {item.name for item in graph.input if item.name != IMAGE}
    of_image = {IMAGE}
    border: dict[str, None] = {}  # Ordered, without repetition.
    first, second = [], []
    for node in graph.node:  # A graph's nodes stand in the order of their running.
        if any(name in of_prompts for name in node.input):
            of_prompts.update(node.output)
            border.update(dict.fromkeys(name for name in node.input if name in of_image))
            second.append(node)
        else:
            of_image.update(node.output)
            first.append(node)
    return Halves(first, second, list(border))


def part_of(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
) -> bytes:
    """Return a model of some of a model's nodes, serialised."""
    used = {name for node in nodes for name in node.input}
    weights = [item for item in model.graph.initializer if item.name in used]
    graph = onnx.helper.make_graph(list(nodes), "part", list(inputs), list(outputs), weights)
    part = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return bytes(part.SerializeToString())


class SplitEngine:
    """An engine for comparisons; the image's half is kept as long as the same array comes again."""

    def __init__(self, bundle: ModelBundle, threads: int = 0) -> None:
        """Cut the bundle's graph and load both halves.

        Args:
            bundle: The model bundle.
            threads: CPU threads; 0 lets ONNX Runtime choose.

        Raises:
            Vl4adError: If the graph cannot be cut or loaded.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads

        def session(part: bytes) -> Any:
            return onnxruntime.InferenceSession(part, options, providers=["CPUExecutionProvider"])

        try:
            model = onnx.load(bundle.onnx_path)
            halves, given = cut(model.graph), {item.name: item for item in model.graph.input}
            made = [onnx.ValueInfoProto(name=name) for name in halves.border if name != IMAGE]
            self._first = session(part_of(model, halves.first, [given[IMAGE]], made))
            # ONNX Runtime has found out the types; sizes may differ from image to image.
            taken = [
                onnx.helper.make_tensor_value_info(o.name, _TYPES[o.type], None) for o in self._first.get_outputs()
            ]
            taken += [item for name, item in given.items() if name != IMAGE or IMAGE in halves.border]
            self._second = session(part_of(model, halves.second, taken, list(model.graph.output)))
        except Exception as error:  # Both libraries have private exception classes.
            raise Vl4adError(f"{bundle.onnx_path} cannot be cut into two halves ({error}).") from error
        self._names = [item.name for item in self._first.get_outputs()]
        self._takes_image = any(item.name == IMAGE for item in self._second.get_inputs())
        self._seen: NDArray[np.uint8] | None = None
        self._kept: dict[str, Any] = {}
        self._info = EngineInfo(
            backend="onnxruntime",
            device="cpu",
            library=f"onnxruntime {onnxruntime.__version__}, graph cut behind the image's part",
            model=str(bundle.onnx_path),
            model_sha256=bundle.onnx_sha256,
            precision=bundle.card.precision,
        )

    @property
    def info(self) -> EngineInfo:
        """What runs."""
        return self._info

    def infer(self, images: NDArray[np.uint8], prompts: PromptTensors) -> NDArray[np.float32]:
        """Run the image's half if the images are others than before, then the other one; see `Engine.infer`."""
        check_images(images)
        if self._seen is None or not np.array_equal(images, self._seen):
            self._kept = dict(zip(self._names, self._first.run(self._names, {IMAGE: images}), strict=True))
            if self._takes_image:
                self._kept[IMAGE] = images
            self._seen = images.copy()
        (score,) = self._second.run([GRAPH_OUTPUT], {**self._kept, **prompts.graph_inputs()})
        return np.asarray(score, dtype=np.float32)

    def close(self) -> None:
        """Free both sessions."""
        self._first = self._second = None
        self._kept, self._seen = {}, None
