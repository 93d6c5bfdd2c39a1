"""The ONNX Runtime backend and the ROS-free detector, on the mock network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from mock_bundle import red_uncertainty
from onnx import TensorProto, helper

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import CARD, ModelBundle, write_card
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.engine import create_engine
from vl4ad_ros.runtime.frames import anomaly_mask, upsample


def solid(red: int, green: int, blue: int, height: int = 64, width: int = 96) -> np.ndarray:
    return np.full((height, width, 3), (red, green, blue), dtype=np.uint8)


def test_known_answer_at_the_camera_size(mock_bundle: Path) -> None:
    detector = Detector.open(mock_bundle)
    image = solid(255, 0, 0, 90, 160)
    result = detector.detect(image, detector.prompts("traffic"))
    assert result.shape == (90, 160)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, red_uncertainty(), atol=1e-6)


def test_keep_aspect_network_size(mock_bundle: Path) -> None:
    bundle = ModelBundle.load(mock_bundle)
    assert bundle.network_size(640, 960) == (64, 96)
    height, width = bundle.network_size(1080, 1920)
    assert height % 4 == width % 4 == 0
    assert abs(width / height - 16 / 9) < 0.1
    assert height * width == pytest.approx(64 * 96, rel=0.1)


def test_what_is_not_there_is_an_error_that_says_how_to_get_it(mock_bundle: Path) -> None:
    bundle = ModelBundle.load(mock_bundle)
    with pytest.raises(Vl4adError, match=r"Unknown backend: expected one of .* got 'openvino'"):
        create_engine(bundle, "openvino")
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(Vl4adError, match="pip install onnxruntime-gpu"):
            create_engine(bundle, "onnxruntime-cuda")


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3), np.uint8), np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3))])
def test_bad_images_are_refused(mock_bundle: Path, image: np.ndarray) -> None:
    with pytest.raises(Vl4adError, match="Expected an RGB image"):
        Detector.open(mock_bundle).preprocess(image)


def test_corrupt_bundles_are_refused_with_a_sentence(mock_bundle: Path) -> None:
    with pytest.raises(Vl4adError, match="There is no model bundle 'nope'"):
        ModelBundle.load("nope")
    graph = mock_bundle / "model.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:-10])
    with pytest.raises(Vl4adError, match=r"damaged: model\.onnx does not match the sha256"):
        ModelBundle.load(mock_bundle)
    graph.unlink()
    with pytest.raises(Vl4adError, match=r"damaged: model\.onnx is missing"):
        ModelBundle.load(mock_bundle)
    (mock_bundle / CARD).write_text('{"name": "x", "strid": 4}')
    with pytest.raises(Vl4adError, match=r"card\.json: "):
        ModelBundle.load(mock_bundle)
    (mock_bundle / CARD).unlink()
    with pytest.raises(Vl4adError, match=r"it has no card\.json"):
        ModelBundle.load(mock_bundle)


def test_graph_of_somebody_else_is_refused(mock_bundle: Path) -> None:
    bundle = ModelBundle.load(mock_bundle)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "other",
        [info("x", TensorProto.FLOAT, [1])],
        [info("y", TensorProto.FLOAT, [1])],
    )
    other = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(other, str(bundle.onnx_path))
    write_card(mock_bundle, bundle.card)
    with pytest.raises(Vl4adError, match="not a vl4ad graph"):
        Detector.open(mock_bundle)


def test_prompt_sets_of_the_bundle(mock_bundle: Path) -> None:
    bundle = ModelBundle.load(mock_bundle)
    assert bundle.prompt_set_names() == ["greys", "merged", "traffic", "traffic_ood"]
    assert bundle.load_prompt_set().name == "traffic"
    with pytest.raises(Vl4adError, match=r"expected one of \['greys', .*\], got 'city'"):
        bundle.load_prompt_set("city")
    with pytest.raises(Vl4adError, match="has no method 'random_word'"):
        Detector.open(mock_bundle).prompts(method="random_word")


def test_prompt_set_of_another_encoder_is_refused(mock_bundle: Path, tmp_path: Path) -> None:
    from mock_bundle import ColourEncoder, mock_prompt_sets

    from vl4ad_ros.prompts.compile import compile_prompt_set

    class Other(ColourEncoder):
        id = "other:rgb"

    path = tmp_path / "other.safetensors"
    compile_prompt_set(mock_prompt_sets()["traffic"], Other()).save(path)
    with pytest.raises(Vl4adError, match=r"text encoder 'other:rgb'.*needs 'mock:rgb'.*prompts compile"):
        ModelBundle.load(mock_bundle).load_prompt_set(path)


def test_upsampling_keeps_range_and_size() -> None:
    scores = np.array([[0.0, 1.0], [1.0, 0.0]], dtype=np.float32)
    large = upsample(scores, 100, 60)
    for into in (np.zeros((100, 60), np.float32), np.zeros((120, 100), np.float32)[:100, 20:80]):  # also no whole rows
        assert upsample(scores, 100, 60, into) is into
        assert np.array_equal(into, large)
        mask = np.zeros(into.shape, np.uint8)
        assert anomaly_mask(into, 0.4, mask) is mask
        assert np.array_equal(mask, anomaly_mask(large, 0.4))
    same = np.zeros_like(scores)
    assert upsample(scores, 2, 2, same) is same
    assert np.array_equal(same, scores)
    assert large.shape == (100, 60)
    assert large.min() >= 0
    assert large.max() <= 1


@pytest.mark.parametrize(("scale", "size"), [(0.5, (192, 320)), (1.0, (352, 640)), (2.0, (704, 1280))])
def test_the_network_sees_the_scaled_picture(scale: float, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    detector = Detector.open("vl4ad-small", input_scale=scale)
    assert detector.preprocess(image).shape[:2] == size
    assert detector.detect(image, detector.prompts()).shape == (360, 640)


def test_a_network_of_one_size_refuses(mock_bundle: Path) -> None:
    bundle = ModelBundle.load(mock_bundle)
    fixed = ModelBundle(bundle.path, bundle.card.model_copy(update={"num_queries": 100}))
    assert fixed.scaled(1.0) == fixed
    with pytest.raises(Vl4adError, match="input_scale"):
        fixed.scaled(2.0)
