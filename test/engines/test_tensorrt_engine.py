"""The TensorRT engine's own code on a stand-in for the GPU (`fake_tensorrt`), and its errors where there is none."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_tensorrt import FakeCuda, fake_library
from mock_bundle import STRIDE

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.bundle import ModelBundle, write_card
from vl4ad_ros.runtime.cuda import CudaDevice
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.engine import create_engine
from vl4ad_ros.runtime.engine_card import Gpu, card_path, engine_path, load_engine_card, stale_part
from vl4ad_ros.runtime.graph_compare import verify_engine
from vl4ad_ros.runtime.tensorrt_builder import build_engine, ensure_engine, image_profile
from vl4ad_ros.runtime.tensorrt_engine import TensorRtEngine
from vl4ad_ros.runtime.tensorrt_library import TensorRtLibrary


class Rig:
    """A mock bundle with a built engine on a stand-in GPU."""

    def __init__(self, path: Path, name: str = "tensorrt", max_batch: int = 3) -> None:
        self.cuda = FakeCuda()
        self.library: TensorRtLibrary = fake_library(name, self.cuda, STRIDE)
        self.bundle = ModelBundle.load(path)
        image = image_profile(self.bundle.card.input, max_batch)
        self.card = build_engine(self.bundle, self.library, image, cuda=self.device())
        self.path = engine_path(self.bundle, name)
        self.reference = Detector(self.bundle, create_engine(self.bundle))

    def device(self) -> CudaDevice:
        return CudaDevice(runtime=self.cuda)

    def open(self) -> TensorRtEngine:
        return TensorRtEngine(ModelBundle.load(self.bundle.path), self.library, cuda=self.device())


@pytest.fixture(params=["tensorrt", "tensorrt_rtx"])
def rig(request: pytest.FixtureRequest, mock_bundle: Path) -> Rig:
    return Rig(mock_bundle, request.param)


def images(shape: tuple[int, ...] = (1, 64, 96, 3), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_agrees_with_onnx_runtime_over_shapes_batches_and_prompt_swaps(rig: Rig) -> None:
    engine = rig.open()
    prompts = [rig.reference.prompts(name) for name in ("traffic", "traffic_ood", "merged")]
    shapes = [(1, 64, 96, 3), (2, 64, 96, 3), (3, 64, 96, 3), *((1, 32, width, 3) for width in range(48, 88, 4))]
    for step in range(3 * len(shapes)):
        batch, tensors = images(shapes[step * 5 % len(shapes)], seed=step), prompts[step % 3]
        np.testing.assert_allclose(engine.infer(batch, tensors), rig.reference.engine.infer(batch, tensors), atol=1e-6)
    assert len(rig.cuda.graphs) <= 4, "the graphs of many shapes are bounded"
    engine.close()
    assert not rig.cuda.memory, "memory was left behind"
    assert not rig.cuda.graphs


def test_a_frame_allocates_no_gpu_memory(rig: Rig) -> None:
    engine, tensors = rig.open(), rig.reference.prompts("traffic")
    engine.infer(images(), tensors)
    before = set(rig.cuda.memory)
    for seed in range(3):
        engine.infer(images(seed=seed), tensors)
    assert set(rig.cuda.memory) == before


def test_shapes_outside_the_profile_are_refused(rig: Rig) -> None:
    engine, tensors = rig.open(), rig.reference.prompts("traffic")
    for shape in ((4, 64, 96, 3), (1, 512, 96, 3)):
        with pytest.raises(Vl4adError, match=r"batches of 1 to 3 images .*--max-batch"):
            engine.infer(images(shape), tensors)


def test_verification_writes_the_error_to_the_card(rig: Rig) -> None:
    assert rig.card.check == "not checked: no GPU here"
    engine = rig.open()
    checked = verify_engine(rig.bundle, engine, rig.library.name)
    assert isinstance(checked.check, dict)
    assert checked.check["max_abs_error"] == 0
    assert load_engine_card(rig.bundle, rig.library.name) == checked
    right = engine.infer
    engine.infer = lambda images, prompts: right(images, prompts) + np.float32(0.1)  # type: ignore[method-assign]
    with pytest.raises(Vl4adError, match=r"is wrong: .* differs"):
        verify_engine(rig.bundle, engine, rig.library.name)
    noted = load_engine_card(rig.bundle, rig.library.name).check
    assert isinstance(noted, dict)
    assert noted["max_abs_error"] == pytest.approx(0.1, abs=1e-3)


def other_graph(rig: Rig) -> None:
    graph = rig.bundle.onnx_path
    graph.write_bytes(graph.read_bytes() + b"\x92\x01\x00")
    write_card(rig.bundle.path, rig.bundle.card)


def other_version(rig: Rig) -> None:
    rig.library.module.__version__ = "11.4.0"  # type: ignore[attr-defined]


def cut_file(rig: Rig) -> None:
    rig.path.write_bytes(rig.path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("change", "part"),
    [(other_graph, "graph model.onnx"), (other_version, "11.4.0, was 10.99"), (cut_file, ".engine does not match")],
)
def test_a_stale_engine_names_the_part_and_the_command_with_its_shapes(
    rig: Rig, change: Callable[[Rig], None], part: str
) -> None:
    change(rig)
    with pytest.raises(Vl4adError, match="is stale") as caught:
        rig.open()
    assert part in str(caught.value)
    command = shlex.split(str(caught.value).partition("rebuild it with: ")[2])
    sizes = ["--max-batch", "3", "--min-size", "32x48", "--best-size", "64x96", "--max-size", "128x192"]
    assert command == [*["vl4ad", "export", "tensorrt"], str(rig.bundle.path), "--library", rig.library.name, *sizes]


def test_an_engine_of_tensorrt_is_for_one_gpu_of_rtx_for_any(rig: Rig) -> None:
    other = Gpu(name="Other GPU", compute_capability="12.0")
    part = stale_part(rig.card.model_copy(update={"gpu": Gpu(name="Own", compute_capability="8.9")}), rig.bundle,
                      "10.99", other)  # fmt: skip
    assert (part is None) == rig.library.is_rtx
    assert part is None or ("Other GPU" in part and "Own" in part)


def test_a_missing_engine_names_the_command(mock_bundle: Path) -> None:
    cuda = FakeCuda()
    with pytest.raises(Vl4adError, match=r"no tensorrt engine .*; build it with: vl4ad export tensorrt .* --library"):
        TensorRtEngine(
            ModelBundle.load(mock_bundle), fake_library("tensorrt", cuda, STRIDE), cuda=CudaDevice(runtime=cuda)
        )


def test_cards_of_earlier_versions_are_read_and_unknown_keys_refused(rig: Rig) -> None:
    path = card_path(rig.path)
    card = json.loads(path.read_text())
    path.write_text(json.dumps({**card, "compute_capabilities": []}))
    rig.open().close()
    path.write_text(json.dumps({**card, "colour": "red"}))
    with pytest.raises(Vl4adError, match="unknown key 'colour'"):
        rig.open()


def test_kernels_of_rtx_are_kept_between_starts(mock_bundle: Path) -> None:
    rig = Rig(mock_bundle, "tensorrt_rtx")
    kernels = rig.path.with_suffix(".kernels")
    for _ in range(2):
        rig.open().infer(images(), rig.reference.prompts("traffic"))
        assert kernels.read_bytes() == b"kernels"
        kernels.write_bytes(b"of another driver")


class NoDriver(FakeCuda):
    def cudaGetDeviceCount(self) -> tuple[int, int]:
        return 35, 0


class Empty(FakeCuda):
    def cudaGetDeviceCount(self) -> tuple[int, int]:
        return 0, 0


class OutOfMemory(FakeCuda):
    def cudaMalloc(self, nbytes: int) -> tuple[int, int]:
        return 2, 0


@pytest.mark.parametrize(
    ("runtime", "device", "sentence"),
    [
        (NoDriver(), 0, r"No NVIDIA GPU .*fake failure"),
        (Empty(), 0, r"No NVIDIA GPU .*none found"),
        (FakeCuda(), 1, "no GPU 1"),
        (OutOfMemory(), 0, "CUDA failed in cudaMalloc: fake failure"),
    ],
)
def test_cuda_errors_are_sentences(runtime: FakeCuda, device: int, sentence: str) -> None:
    with pytest.raises(Vl4adError, match=sentence):
        CudaDevice(device, runtime=runtime).allocate(8)


def test_auto_build_builds_only_what_is_missing_or_stale(mock_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundle, cuda = ModelBundle.load(mock_bundle), FakeCuda()
    library = fake_library("tensorrt", cuda, STRIDE)

    def ensure(max_batch: int = 1) -> str:
        caplog.clear()
        with caplog.at_level("WARNING"):
            ensure_engine(ModelBundle.load(mock_bundle), library, max_batch, cuda=CudaDevice(runtime=cuda))
        return caplog.text

    assert "there is none" in ensure()
    assert ensure() == ""
    assert "3 are needed" in ensure(3)
    assert ensure(2) == ""
    library.module.__version__ = "11.4.0"  # type: ignore[attr-defined]
    assert "11.4.0, was 10.99" in ensure()
    assert load_engine_card(bundle, "tensorrt").image.max_batch == 3
    card_path(engine_path(bundle, "tensorrt")).unlink()
    assert "there is none" in ensure()


def build(bundle: Path, timing_cache: Path | None = None, during: Callable[[], object] = lambda: None) -> Path:
    """Build an engine on a stand-in GPU, with something happening in the middle of it; return its path."""
    cuda = FakeCuda()
    library = fake_library("tensorrt", cuda, STRIDE)
    finish = library.module.Builder.build_serialized_network

    def build_serialized_network(*given: object) -> object:
        during()
        return finish(*given)

    library.module.Builder.build_serialized_network = build_serialized_network
    loaded = ModelBundle.load(bundle)
    build_engine(loaded, library, timing_cache=timing_cache, cuda=CudaDevice(runtime=cuda))
    return engine_path(loaded, "tensorrt")


def test_a_timing_cache_is_kept_between_builds(mock_bundle: Path, tmp_path: Path) -> None:
    cache = tmp_path / "timing.cache"
    for expected in (b"t", b"tt"):
        build(mock_bundle, cache)
        assert cache.read_bytes() == expected
    assert [path.name for path in tmp_path.glob("*timing*")] == ["timing.cache"]


def never() -> None:
    raise AssertionError("built for minutes")


@pytest.mark.parametrize("place", ["file/timing.cache", "folder"])
def test_a_timing_cache_that_cannot_be_written_is_named_before_the_build(
    mock_bundle: Path, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(Vl4adError, match=place):
        build(mock_bundle, tmp_path / place, never)
    assert not list((mock_bundle / "engines").iterdir())


def test_a_timing_cache_lost_during_the_build_does_not_cost_the_engine(
    mock_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "timing.cache"
    assert build(mock_bundle, cache, cache.mkdir).is_file()
    assert "timing.cache" in caplog.text


def test_a_folder_that_cannot_be_written_is_a_sentence(mock_bundle: Path) -> None:
    (mock_bundle / "engines").write_text("in the way")
    with pytest.raises(Vl4adError, match=r"\.engine: cannot be written"):
        build(mock_bundle, during=never)
