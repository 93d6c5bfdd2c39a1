"""Mixed precision: what is converted, what is not, and what it costs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.precision import FLOAT32_OPERATORS, float16_share, to_float16, write_float16_bundle
from vl4ad_ros.runtime.bundle import ModelBundle, write_card
from vl4ad_ros.runtime.detector import Detector


@pytest.fixture(scope="module")
def half(tiny_bundle: ModelBundle) -> onnx.ModelProto:
    """The small network's graph in mixed precision."""
    return to_float16(onnx.load(str(tiny_bundle.onnx_path)))


def types(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    found = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.input, *inferred.output)}
    return found | {t.name: t.data_type for t in inferred.initializer}


def test_heavy_operators_are_float16_and_delicate_ones_are_not(half: onnx.ModelProto, tiny_bundle: ModelBundle) -> None:
    kinds = types(half)
    seen = set()
    for node in half.graph.node:
        if node.op_type in FLOAT32_OPERATORS:
            seen.add(node.op_type)
            assert onnx.TensorProto.FLOAT16 not in {kinds.get(name) for name in (*node.input, *node.output)}, node.name
    assert {"Softmax", "LayerNormalization"} <= seen
    convolutions = [n for n in half.graph.node if n.op_type == "Conv"]
    assert all(kinds[n.input[1]] == onnx.TensorProto.FLOAT16 for n in convolutions)
    assert 0.5 < float16_share(half) < 1
    assert float16_share(onnx.load(str(tiny_bundle.onnx_path))) == 0


def test_the_score_stage_stays_float32(half: onnx.ModelProto) -> None:
    """A cosine's rounding would be multiplied by 1/T."""
    kinds = types(half)
    prompt_readers = [n for n in half.graph.node if {"text_embeddings", "settings", "class_mask"} & set(n.input)]
    assert prompt_readers
    for node in prompt_readers:
        assert {kinds[name] for name in node.output} == {onnx.TensorProto.FLOAT}, node.name


def test_sampling_locations_of_the_mask_network_stay_float32(mask_bundle: ModelBundle) -> None:
    """All between the last matrix product and a GridSample: float16 counts positions only to 2048."""
    model = to_float16(onnx.load(str(mask_bundle.onnx_path)))
    kinds = types(model)
    maker = {name: node for node in model.graph.node for name in node.output}
    grids = [node for node in model.graph.node if node.op_type == "GridSample"]
    assert len(grids) == 3  # one layer of deformable attention, three scales
    pending, seen = [node.input[1] for node in grids], set[str]()
    while pending:
        name = pending.pop()
        node = maker.get(name)
        # What a matrix product gives may be float16; from the cast behind it on, positions are float32.
        if name in seen or node is None or node.op_type in ("MatMul", "Gemm", "Conv", "ConvTranspose"):
            continue
        assert kinds[name] != onnx.TensorProto.FLOAT16, node
        seen.add(name)
        pending += node.input
    assert len(seen) > 6
    for kind in ("Softmax", "LayerNormalization"):
        named = [node for node in model.graph.node if node.op_type == kind]
        assert named
        assert all(kinds[name] == onnx.TensorProto.FLOAT for node in named for name in (*node.input, *node.output))


def test_nothing_is_rounded_between_two_float32_operators(half: onnx.ModelProto) -> None:
    kinds = types(half)
    maker = {name: node for node in half.graph.node for name in node.output}
    for node in half.graph.node:
        if node.op_type == "Cast" and kinds[node.output[0]] == onnx.TensorProto.FLOAT:
            before = maker.get(node.input[0])
            assert before is None or before.op_type != "Cast" or kinds[before.input[0]] != onnx.TensorProto.FLOAT


def test_bundle(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    half = write_float16_bundle(tiny_bundle, tmp_path / "half", "tiny-half")
    loaded = ModelBundle.load(half.path)
    assert loaded.card.precision == "float16"
    assert loaded.card.name == "tiny-half"
    assert loaded.prompt_set_names() == tiny_bundle.prompt_set_names()
    check = loaded.card.scores["float16_check"]
    assert 0 < check["max_abs_error"] < 2e-2
    assert check["heavy_operators_in_float16"] > 0.5
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    one, two = Detector.open(tiny_bundle.path), Detector.open(half.path)
    assert two.engine.info.precision == "float16"
    np.testing.assert_allclose(one.detect(image, one.prompts()), two.detect(image, two.prompts()), atol=2e-2)


def test_weights_beside_the_float32_graph_stay_behind(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundle.path, tmp_path / "split"))
    model = onnx.load(str(folder / tiny_bundle.card.onnx))
    onnx.save(model, str(folder / tiny_bundle.card.onnx), save_as_external_data=True, location="weights.bin")
    write_card(folder, tiny_bundle.card)
    split = ModelBundle.load(folder)
    assert "weights.bin" in split.card.sha256
    half = ModelBundle.load(write_float16_bundle(split, tmp_path / "half").path)
    assert "weights.bin" not in half.card.sha256
    assert not (half.path / "weights.bin").exists()


def test_wrong_use(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("keep")
    with pytest.raises(Vl4adError, match="is not empty"):
        write_float16_bundle(tiny_bundle, taken)
    with pytest.raises(Vl4adError, match=r"In float16 the published map of '.*' differs by"):
        write_float16_bundle(tiny_bundle, tmp_path / "strict", tolerance=1e-9)
    assert not (tmp_path / "strict").exists()
    half = ModelBundle(tiny_bundle.path, tiny_bundle.card.model_copy(update={"precision": "float16"}))
    with pytest.raises(Vl4adError, match="is float16 already"):
        write_float16_bundle(half, tmp_path / "twice")
