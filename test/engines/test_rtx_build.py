"""Real builds with TensorRT for RTX, ahead of time and without a GPU: what it would refuse on a vehicle shows here."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_network import tiny_card

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.resources import bundle_dirs
from vl4ad_ros.network.precision import write_float16_bundle
from vl4ad_ros.runtime.bundle import InputSpec, ModelBundle, write_card
from vl4ad_ros.runtime.engine_card import NOT_CHECKED, engine_path, load_engine_card
from vl4ad_ros.runtime.tensorrt_builder import build_engine, image_profile
from vl4ad_ros.runtime.tensorrt_library import TensorRtLibrary, load_library


@pytest.fixture(scope="module")
def library() -> TensorRtLibrary:
    try:
        return load_library("tensorrt_rtx")
    except Vl4adError as error:
        pytest.skip(str(error))


def copy_of(bundle: ModelBundle, path: Path) -> ModelBundle:
    shutil.copytree(bundle.path, path, ignore=shutil.ignore_patterns("engines"))
    return ModelBundle.load(path)


def test_engine_and_card(library: TensorRtLibrary, tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    bundle = copy_of(tiny_bundle, tmp_path / "copy")
    steps: list[tuple[str, int, int]] = []
    card = build_engine(
        bundle,
        library,
        image_profile(bundle.card.input, 4),
        workspace_mib=512,
        progress=lambda *step: steps.append(step),
    )
    path = engine_path(bundle, "tensorrt_rtx")
    assert path.stat().st_size == card.engine_bytes > 10_000
    assert card == load_engine_card(bundle, "tensorrt_rtx")
    assert card.library == "tensorrt_rtx"
    assert card.version == library.version
    assert card.gpu is None
    assert card.check == NOT_CHECKED
    assert card.image.max_batch == 4
    assert card.onnx_sha256 == bundle.onnx_sha256
    assert steps[0][1] == 0
    assert steps[-1][1] == steps[-1][2]
    ModelBundle.load(bundle.path)


def test_the_shipped_bundle_builds(library: TensorRtLibrary, tmp_path: Path) -> None:
    if "vl4ad-small" not in bundle_dirs():
        pytest.skip("this checkout has no models/vl4ad-small")
    shipped = ModelBundle.load("vl4ad-small")
    bundle = copy_of(shipped, tmp_path / "small")
    card = build_engine(bundle, library, image_profile(bundle.card.input, 2))
    assert card.engine_bytes > 0.5 * bundle.onnx_path.stat().st_size


def test_the_mask_network_builds_in_both_precisions(
    library: TensorRtLibrary, mask_bundle: ModelBundle, tmp_path: Path
) -> None:
    """Deformable attention (GridSample), masked attention, mask pooling, score: the large network's own operators."""
    bundle = copy_of(mask_bundle, tmp_path / "mask")
    kinds = {node.op_type for node in onnx.load(str(bundle.onnx_path)).graph.node}
    assert {"GridSample", "Softmax", "Sigmoid"} <= kinds
    half = write_float16_bundle(mask_bundle, tmp_path / "half")
    assert half.card.scores["float16_check"]["heavy_operators_in_float16"] > 0.7
    for one, precision in ((bundle, "float32"), (half, "float16")):
        built = build_engine(one, library, image_profile(one.card.input, 1))
        assert (built.precision, built.engine_bytes > 500_000) == (precision, True)


def test_a_network_that_bakes_its_size_in_is_refused(
    library: TensorRtLibrary, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """TensorRT only warns of it and builds an engine that fails on the vehicle."""
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
            node("Shape", ["x"], ["shape"]),
            node("Slice", ["shape", "zero", "one"], ["batch"]),
            node("Concat", ["batch", "rest"], ["target"], axis=0),
            node("Reshape", ["x", "target"], ["pixels"]),
            node("Add", ["pixels", "table"], ["score"]),
        ],
        "baked",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "height", "width", 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", "h", "w"])],
        [
            numpy_helper.from_array(np.zeros(1, np.int64), "zero"),
            numpy_helper.from_array(np.ones(1, np.int64), "one"),
            numpy_helper.from_array(np.array([-1, 3], np.int64), "rest"),
            numpy_helper.from_array(np.ones((1, 64 * 96, 3), np.float32), "table"),
        ],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9),
        str(tmp_path / "model.onnx"),
    )
    bundle = ModelBundle(tmp_path, write_card(tmp_path, tiny_card()))
    with (
        caplog.at_level(logging.CRITICAL),
        pytest.raises(Vl4adError, match=r"model\.onnx cannot run at all sizes .* 6144"),
    ):
        build_engine(bundle, library)
    assert not engine_path(bundle, "tensorrt_rtx").exists()


def test_an_operator_it_cannot_take_is_named(library: TensorRtLibrary, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
            helper.make_node("Frobnicate", ["x"], ["score"], name="odd_one", domain="nowhere"),
        ],
        "odd",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "height", "width", 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", "h", "w"])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("nowhere", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(tmp_path / "model.onnx"))
    bundle = ModelBundle(tmp_path, write_card(tmp_path, tiny_card()))
    with pytest.raises(Vl4adError, match=r"tensorrt_rtx 1\..* cannot take .*model\.onnx: .*Frobnicate"):
        build_engine(bundle, library)


def test_what_it_cannot_do_is_a_sentence(library: TensorRtLibrary, tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    bundle = copy_of(tiny_bundle, tmp_path / "copy")
    with pytest.raises(Vl4adError, match="leave the timing cache out"):
        build_engine(bundle, library, timing_cache=tmp_path / "timing.cache")
    assert not engine_path(bundle, "tensorrt_rtx").exists()


def test_image_profiles() -> None:
    spec = InputSpec(height=64, width=96, multiple_of=32, resize="keep_aspect")
    free = image_profile(spec, 3)
    assert (free.min_size, free.best_size, free.max_size) == ((32, 32), (64, 96), (128, 192))
    assert free.accepts(3, 128, 32)
    assert not free.accepts(4, 64, 96)
    assert not free.accepts(1, 160, 96)
    fixed = image_profile(InputSpec(height=64, width=96), 1)
    assert fixed.min_size == fixed.max_size == (64, 96)
    with pytest.raises(Vl4adError, match="fixed at 64x96"):
        image_profile(InputSpec(height=64, width=96), 1, max_size=(128, 192))
    with pytest.raises(Vl4adError, match="multiples of 32, got 40x96"):
        image_profile(spec, 1, min_size=(40, 96))
    with pytest.raises(Vl4adError, match="not in order"):
        image_profile(spec, 1, max_size=(32, 32))
