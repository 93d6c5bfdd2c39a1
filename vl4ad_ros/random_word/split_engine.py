"""An engine for many prompt sets on the same images: the graph's part before the prompts is run once."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx.utils import Extractor

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.engine import GRAPH_OUTPUT, check_images
from vl4ad_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine
from vl4ad_ros.runtime.prompt_tensors import PromptTensors

IMAGE = "image"


def border(graph: onnx.GraphProto) -> list[str]:
    """Return the names of what the nodes with a prompt input, or behind one, take of the image's part of a graph."""
    of_prompts = {item.name for item in graph.input if item.name != IMAGE}
    of_image = {IMAGE}
    names: dict[str, None] = {}  # Ordered, without repetition.
    for node in graph.node:  # In the order of their running.
        if of_prompts.intersection(node.input):
            of_prompts.update(node.output)
            names.update(dict.fromkeys(name for name in node.input if name in of_image))
        elif of_image.intersection(node.input):
            of_image.update(node.output)
    return list(names)


class SplitEngine(OnnxRuntimeEngine):
    """An engine for comparisons, which keeps the result of the image's half while the same images come again."""

    def __init__(self, bundle: ModelBundle, threads: int = 0) -> None:
        """Load the bundle's graph, cut in two."""
        super().__init__(bundle, threads=threads)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads

        def session(part: onnx.ModelProto) -> Any:
            return onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])

        try:
            model = onnx.shape_inference.infer_shapes(onnx.load(bundle.onnx_path))
            extractor, names = Extractor(model), border(model.graph)
            prompts = [item.name for item in model.graph.input if item.name != IMAGE]
            self._names = [name for name in names if name != IMAGE]
            self._first = session(extractor.extract_model([IMAGE], self._names))
            # The whole graph, which the parent loaded and checked, makes room for its second half.
            self._session = session(extractor.extract_model([*names, *prompts], [GRAPH_OUTPUT]))
        except Exception as error:  # Both libraries have private exception classes.
            raise Vl4adError(f"{bundle.onnx_path} cannot be cut into two halves ({error}).") from error
        self._takes_image = IMAGE in names
        self._seen: NDArray[np.uint8] | None = None
        self._kept: dict[str, Any] = {}

    def infer(self, images: NDArray[np.uint8], prompts: PromptTensors) -> NDArray[np.float32]:
        """Run the image's half if the images are others than before, then the other one; see `Engine.infer`."""
        check_images(images)
        if self._seen is None or not np.array_equal(images, self._seen):
            self._kept = dict(zip(self._names, self._first.run(self._names, {IMAGE: images}), strict=True))
            if self._takes_image:
                self._kept[IMAGE] = images
            self._seen = images.copy()
        (score,) = self._session.run([GRAPH_OUTPUT], {**self._kept, **prompts.graph_inputs()})
        return np.asarray(score, dtype=np.float32)
