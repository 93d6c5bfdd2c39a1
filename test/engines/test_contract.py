"""What every backend keeps, tested alike on each; a backend whose hardware or library is missing skips and says so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_tensorrt import FakeCuda, fake_library
from mask_bundle import HEIGHT, WIDTH

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.cuda import CudaDevice
from vl4ad_ros.runtime.engine import BACKENDS, Engine, create_engine
from vl4ad_ros.runtime.engine_card import ENGINES
from vl4ad_ros.runtime.graph_compare import TOLERANCES, compare, every_setting, noise_batches
from vl4ad_ros.runtime.prompt_tensors import PromptTensors
from vl4ad_ros.runtime.tensorrt_builder import build_engine, image_profile
from vl4ad_ros.runtime.tensorrt_engine import TensorRtEngine
from vl4ad_ros.runtime.tensorrt_library import load_library

SIMULATED = "tensorrt on a stand-in GPU"


def open_engine(backend: str, bundle: ModelBundle, folder: Path) -> Engine:
    if backend == SIMULATED:
        cuda = FakeCuda()
        copy = ModelBundle.load(shutil.copytree(bundle.path, folder / "simulated"))
        library = fake_library("tensorrt", cuda, bundle.card.stride)
        build_engine(copy, library, image_profile(copy.card.input, 2), cuda=CudaDevice(runtime=cuda))
        return TensorRtEngine(copy, library, cuda=CudaDevice(runtime=cuda))
    if backend.startswith("tensorrt"):
        library = load_library(backend)
        device = CudaDevice()
        copy = ModelBundle.load(shutil.copytree(bundle.path, folder / backend))
        build_engine(copy, library, image_profile(copy.card.input, 2), cuda=device)
        assert (copy.path / ENGINES).is_dir()
        return TensorRtEngine(copy, library, cuda=device)
    if backend == "torch-compile":
        raise Vl4adError("compiling the network takes minutes on a CPU; test_torch.py compiles a smaller one")
    return create_engine(bundle, backend)


@pytest.fixture(scope="module", params=[*BACKENDS, SIMULATED])
def engine(
    request: pytest.FixtureRequest, mask_bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    try:
        opened = open_engine(request.param, mask_bundle, tmp_path_factory.mktemp("contract"))
    except Vl4adError as error:
        pytest.skip(f"{request.param}: {error}")
    yield opened
    opened.close()


def prompts(bundle: ModelBundle, name: str = "traffic", scoring: str = "vl4ad") -> PromptTensors:
    return bundle.card.pack(bundle.load_prompt_set(name), scoring)


def images(batch: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (batch, HEIGHT, WIDTH, 3), dtype=np.uint8)


def test_agrees_with_onnx_runtime_for_every_score(engine: Engine, mask_bundle: ModelBundle) -> None:
    reference = create_engine(mask_bundle)
    settings = every_setting(mask_bundle.load_prompt_set("traffic_ood"), mask_bundle.card)
    result = compare(reference.infer, engine.infer, settings, noise_batches(mask_bundle.card.input))
    assert result["max_abs_error"] < TOLERANCES["float32"], result


def test_shape_and_type(engine: Engine, mask_bundle: ModelBundle) -> None:
    score = engine.infer(images(2), prompts(mask_bundle))
    stride = mask_bundle.card.stride
    assert score.shape == (2, HEIGHT // stride, WIDTH // stride)
    assert score.dtype == np.float32
    assert np.isfinite(score).all()
    assert score.std() > 0


def test_a_batch_is_its_frames(engine: Engine, mask_bundle: ModelBundle) -> None:
    batch, tensors = images(2, seed=3), prompts(mask_bundle)
    together = engine.infer(batch, tensors)
    for index in range(2):
        np.testing.assert_allclose(together[index], engine.infer(batch[index : index + 1], tensors)[0], atol=1e-3)


def test_each_frame_uses_exactly_its_prompts(engine: Engine, mask_bundle: ModelBundle) -> None:
    """Swapping back and forth gives each set's own answer, bit for bit the same each time."""
    batch = images(seed=5)
    sets = [prompts(mask_bundle, "traffic"), prompts(mask_bundle, "merged"), prompts(mask_bundle, "traffic", "entropy")]
    first = [engine.infer(batch, tensors) for tensors in sets]
    again = [engine.infer(batch, tensors) for tensors in reversed(sets)][::-1]
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert np.abs(first[0] - first[1]).max() > 1e-4
    assert np.abs(first[0] - first[2]).max() > 1e-4


def test_the_caller_owns_the_map(engine: Engine, mask_bundle: ModelBundle) -> None:
    tensors = prompts(mask_bundle)
    score = engine.infer(images(seed=1), tensors)
    kept = score.copy()
    score += 1
    np.testing.assert_array_equal(engine.infer(images(seed=1), tensors), kept)
    engine.infer(images(seed=2), tensors)
    np.testing.assert_array_equal(score, kept + 1)


def test_wrong_images_are_refused(engine: Engine, mask_bundle: ModelBundle) -> None:
    tensors = prompts(mask_bundle)
    batches: list[Any] = [np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.zeros((1, HEIGHT, WIDTH, 3), np.float32)]
    for wrong in batches:
        with pytest.raises(Vl4adError, match="takes uint8 images"):
            engine.infer(wrong, tensors)
    assert np.isfinite(engine.infer(images(), tensors)).all()


def test_info_is_complete(engine: Engine, mask_bundle: ModelBundle) -> None:
    info = asdict(engine.info)
    assert all(info.values()), info
    assert info["backend"] in BACKENDS
    assert info["model_sha256"] == mask_bundle.onnx_sha256
