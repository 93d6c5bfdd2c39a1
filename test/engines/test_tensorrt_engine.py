"""The TensorRT engine's own code on a stand-in for the GPU (`fake_tensorrt`), and its errors where there is none."""

from __future__ import annotations

import json
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
    for step in range(12):
        batch = images(((step % 3) + 1, 64, 96, 3) if step % 2 else (1, 32, 160, 3), seed=step)
        tensors = prompts[step % 3]
        np.testing.assert_allclose(engine.infer(batch, tensors), rig.reference.engine.infer(batch, tensors), atol=1e-6)
    engine.close()
    assert not rig.cuda.memory, "memory was left behind"
    assert rig.cuda.counts["live_graphs"] == 0


def test_a_frame_allocates_nothing_and_replays_one_graph(rig: Rig) -> None:
    engine = rig.open()
    tensors = rig.reference.prompts("traffic")
    engine.infer(images(), tensors)
    before = dict(rig.cuda.counts)
    for seed in range(5):
        engine.infer(images(seed=seed), tensors)
    after = rig.cuda.counts
    assert after["alloc"] == before["alloc"]
    assert after["launch"] == before["launch"] + 5
    assert after["copy"] == before["copy"], "copies belong to the graph"
    assert after["execute"] == before["execute"]


def test_a_prompt_swap_costs_four_uploads_once(rig: Rig) -> None:
    engine = rig.open()
    one, two = rig.reference.prompts("traffic"), rig.reference.prompts("traffic_ood")
    engine.infer(images(), one)
    before = rig.cuda.counts["copy"]
    engine.infer(images(), two)
    engine.infer(images(), two)
    assert rig.cuda.counts["copy"] == before + 4
    assert rig.cuda.counts["capture"] == 1


def test_the_map_belongs_to_the_caller(rig: Rig) -> None:
    engine = rig.open()
    tensors = rig.reference.prompts("traffic")
    first = engine.infer(images(seed=1), tensors)
    kept = first.copy()
    engine.infer(images(seed=2), tensors)
    np.testing.assert_array_equal(first, kept)


def test_graphs_of_many_shapes_are_bounded(rig: Rig) -> None:
    engine = rig.open()
    tensors = rig.reference.prompts("traffic")
    for width in range(48, 48 + 4 * 10, 4):
        engine.infer(images((1, 32, width, 3)), tensors)
    assert rig.cuda.counts["live_graphs"] == 4


def test_shapes_outside_the_profile_are_refused(rig: Rig) -> None:
    engine = rig.open()
    tensors = rig.reference.prompts("traffic")
    with pytest.raises(Vl4adError, match=r"batches of 1 to 3 images from \(32, 48\) to \(128, 192\).*--max-batch"):
        engine.infer(images((4, 64, 96, 3)), tensors)
    with pytest.raises(Vl4adError, match=r"got \(1, 512, 96\)"):
        engine.infer(images((1, 512, 96, 3)), tensors)


def test_verification_writes_the_error_to_the_card(rig: Rig) -> None:
    assert rig.card.check == "not checked: no GPU here"
    checked = verify_engine(rig.bundle, rig.open(), rig.library.name)
    assert isinstance(checked.check, dict)
    assert checked.check["max_abs_error"] == 0
    assert load_engine_card(rig.bundle, rig.library.name) == checked

    class Off:
        def __init__(self, inner: TensorRtEngine) -> None:
            self.infer = lambda batch, prompts: inner.infer(batch, prompts) + np.float32(0.1)

    with pytest.raises(Vl4adError, match=r"is wrong: its published map .* differs from ONNX Runtime's by 0\.1"):
        verify_engine(rig.bundle, Off(rig.open()), rig.library.name)  # type: ignore[arg-type]
    noted = load_engine_card(rig.bundle, rig.library.name).check
    assert isinstance(noted, dict)
    assert noted["max_abs_error"] == pytest.approx(0.1, abs=1e-3)


def test_info_names_what_runs(rig: Rig) -> None:
    info = rig.open().info
    assert info.backend == rig.library.name
    assert info.device == "Fake GPU (compute capability 8.9)"
    assert info.library == f"{rig.library.name} 10.99"
    assert info.model_sha256 == rig.bundle.onnx_sha256


def test_another_graph_makes_the_engine_stale(rig: Rig) -> None:
    graph = rig.bundle.onnx_path
    graph.write_bytes(graph.read_bytes() + b"\x92\x01\x00")
    write_card(rig.bundle.path, rig.bundle.card)
    with pytest.raises(
        Vl4adError, match=r"is stale: the graph model\.onnx is another one .*; rebuild it with: vl4ad e"
    ):
        rig.open()


def test_another_version_makes_the_engine_stale(rig: Rig) -> None:
    rig.library.module.__version__ = "11.4.0"  # type: ignore[attr-defined]
    with pytest.raises(Vl4adError, match=rf"stale: the library is {rig.library.name} 11\.4\.0, was 10\.99"):
        rig.open()


def test_the_rebuild_command_keeps_the_shapes(rig: Rig) -> None:
    rig.library.module.__version__ = "11.4.0"  # type: ignore[attr-defined]
    with pytest.raises(Vl4adError) as caught:
        rig.open()
    command = str(caught.value).split("rebuild it with: ")[1]
    assert command == (
        f"vl4ad export tensorrt {rig.bundle.path} --library {rig.library.name} --max-batch 3 "
        "--min-size 32x48 --best-size 64x96 --max-size 128x192"
    )


def test_a_damaged_engine_is_named(rig: Rig) -> None:
    path = engine_path(rig.bundle, rig.library.name)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Vl4adError, match=r"stale: the file .*\.engine does not match the sha256 on its card"):
        rig.open()


def test_an_engine_that_the_library_refuses_is_an_error_with_its_reason(rig: Rig) -> None:
    path = engine_path(rig.bundle, rig.library.name)
    path.write_bytes(b"JUNK" + path.read_bytes())
    from vl4ad_ros.io.files import sha256_file

    rig.card.model_copy(update={"engine_sha256": sha256_file(path)}).write(path)
    with pytest.raises(Vl4adError, match=r"cannot load .*: magic tag does not match"):
        rig.open()


def test_another_gpu(mock_bundle: Path) -> None:
    """An engine of TensorRT is for one GPU; one of TensorRT for RTX is for the compute capabilities on its card."""
    other = Gpu(name="Other GPU", compute_capability="12.0")
    rig = Rig(mock_bundle)
    part = stale_part(rig.card, rig.bundle, "10.99", other)
    assert part == "the GPU is Other GPU (12.0), was Fake GPU (8.9)"
    rtx = rig.card.model_copy(update={"library": "tensorrt_rtx", "gpu": None})
    path = engine_path(rig.bundle, "tensorrt_rtx")
    path.write_bytes(engine_path(rig.bundle, "tensorrt").read_bytes())
    assert stale_part(rtx, rig.bundle, "10.99", other) is None
    limited = rtx.model_copy(update={"compute_capabilities": ["8.6", "8.9"]})
    part = stale_part(limited, rig.bundle, "10.99", other)
    assert part == "the GPU's compute capability is 12.0 (Other GPU), it was built for 8.6, 8.9"


def test_a_missing_engine_names_the_command(mock_bundle: Path) -> None:
    bundle = ModelBundle.load(mock_bundle)
    cuda = FakeCuda()
    library = fake_library("tensorrt", cuda, STRIDE)
    with pytest.raises(Vl4adError, match=r"has no tensorrt engine .*; build it with: vl4ad export tensorrt .* --lib"):
        TensorRtEngine(bundle, library, cuda=CudaDevice(runtime=cuda))


def test_the_card_refuses_unknown_keys(rig: Rig) -> None:
    path = engine_path(rig.bundle, rig.library.name).with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "red"}))
    with pytest.raises(Vl4adError, match="unknown key 'colour'"):
        rig.open()


def test_kernels_of_rtx_are_kept_between_starts(mock_bundle: Path) -> None:
    rig = Rig(mock_bundle, "tensorrt_rtx")
    engine = rig.open()
    engine.infer(images(), rig.reference.prompts("traffic"))
    kernels = engine_path(rig.bundle, "tensorrt_rtx").with_suffix(".kernels")
    assert kernels.read_bytes() == b"kernels"
    kernels.write_bytes(b"of another driver")
    rig.open().infer(images(), rig.reference.prompts("traffic"))
    assert kernels.read_bytes() == b"kernels"


def test_cuda_errors_are_sentences() -> None:
    class NoDriver(FakeCuda):
        def cudaGetDeviceCount(self) -> tuple[int, int]:
            return 35, 0

    class Empty(FakeCuda):
        def cudaGetDeviceCount(self) -> tuple[int, int]:
            return 0, 0

    class OutOfMemory(FakeCuda):
        def cudaMalloc(self, nbytes: int) -> tuple[int, int]:
            return 2, 0

    with pytest.raises(Vl4adError, match=r"No NVIDIA GPU can be used here \(fake failure\)"):
        CudaDevice(runtime=NoDriver())
    with pytest.raises(Vl4adError, match=r"No NVIDIA GPU can be used here \(none found\)"):
        CudaDevice(runtime=Empty())
    with pytest.raises(Vl4adError, match="There is no GPU 1: this machine has 1"):
        CudaDevice(1, runtime=FakeCuda())
    with pytest.raises(Vl4adError, match="CUDA failed in cudaMalloc: fake failure"):
        CudaDevice(runtime=OutOfMemory()).device(8)


def test_auto_build_builds_only_what_is_missing_or_stale(mock_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundle, cuda = ModelBundle.load(mock_bundle), FakeCuda()
    library = fake_library("tensorrt", cuda, STRIDE)

    def ensure(max_batch: int = 1) -> str:
        caplog.clear()
        with caplog.at_level("WARNING"):
            built = ensure_engine(ModelBundle.load(mock_bundle), library, max_batch, cuda=CudaDevice(runtime=cuda))
        assert built == bool(caplog.text)
        return caplog.text

    assert "there is none" in ensure()
    assert ensure() == ""
    assert "it takes batches of 1, 3 are needed" in ensure(3)
    assert ensure(2) == ""
    library.module.__version__ = "11.4.0"  # type: ignore[attr-defined]
    assert "the library is tensorrt 11.4.0, was 10.99" in ensure()
    assert load_engine_card(bundle, "tensorrt").image.max_batch == 3
    card_path(engine_path(bundle, "tensorrt")).unlink()
    assert "there is none" in ensure()


def test_a_timing_cache_is_kept_between_builds(mock_bundle: Path, tmp_path: Path) -> None:
    cuda, cache = FakeCuda(), tmp_path / "timing.cache"
    library = fake_library("tensorrt", cuda, STRIDE)
    for expected in (b"t", b"tt"):
        build_engine(ModelBundle.load(mock_bundle), library, timing_cache=cache, cuda=CudaDevice(runtime=cuda))
        assert cache.read_bytes() == expected
    assert [path.name for path in tmp_path.glob("*timing*")] == ["timing.cache"]


@pytest.mark.parametrize("place", ["nowhere/timing.cache", "file/timing.cache", "folder"])
def test_a_timing_cache_that_cannot_be_written_is_said_before_the_build(
    mock_bundle: Path, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    cuda = FakeCuda()
    library = fake_library("tensorrt", cuda, STRIDE)

    def build(*_: object) -> bytes:
        raise AssertionError("built for minutes")

    library.module.Builder.build_serialized_network = build
    bundle = ModelBundle.load(mock_bundle)
    with pytest.raises(Vl4adError, match=rf"{place}: the timing cache cannot be read and written there \("):
        build_engine(bundle, library, timing_cache=tmp_path / place, cuda=CudaDevice(runtime=cuda))
    assert not engine_path(bundle, "tensorrt").exists()


def test_a_timing_cache_lost_during_the_build_does_not_cost_the_engine(
    mock_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cuda, folder = FakeCuda(), tmp_path / "caches"
    folder.mkdir()
    library = fake_library("tensorrt", cuda, STRIDE)
    build = library.module.Builder.build_serialized_network

    def lose(*given: object) -> object:
        folder.rmdir()
        return build(*given)

    library.module.Builder.build_serialized_network = lose
    bundle = ModelBundle.load(mock_bundle)
    card = build_engine(bundle, library, timing_cache=folder / "timing.cache", cuda=CudaDevice(runtime=cuda))
    assert engine_path(bundle, "tensorrt").stat().st_size == card.engine_bytes
    assert "timing.cache: the timing cache cannot be written (" in caplog.text


def test_a_folder_that_cannot_be_written_is_a_sentence(mock_bundle: Path) -> None:
    cuda = FakeCuda()
    (mock_bundle / "engines").write_text("in the way")
    with pytest.raises(Vl4adError, match=r"engine cannot be written .*copy the bundle to a folder"):
        build_engine(
            ModelBundle.load(mock_bundle), fake_library("tensorrt", cuda, STRIDE), cuda=CudaDevice(runtime=cuda)
        )
