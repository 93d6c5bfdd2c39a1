"""Export to ONNX and to a bundle, on a small random mask network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from mock_bundle import LIMITS, ColourEncoder, mock_prompt_sets
from tiny_network import HEIGHT, STRIDE, WIDTH, TinyMaskNetwork, tiny_card, write_tiny_bundle
from torch import Tensor

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.bundle_writer import write_bundle
from vl4ad_ros.network.onnx_export import export_onnx, run_torch
from vl4ad_ros.prompts.compile import compile_prompt_set
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.engine import create_engine
from vl4ad_ros.runtime.graph_compare import compare, every_setting, noise_batches
from vl4ad_ros.runtime.prompt_tensors import pack
from vl4ad_ros.runtime.scores import SCORINGS


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


def test_bundle_is_complete_and_carries_the_measured_error(bundle: ModelBundle) -> None:
    loaded = ModelBundle.load(bundle.path)
    assert loaded.prompt_set_names() == sorted(mock_prompt_sets())
    check = loaded.card.scores["onnx_check"]
    assert 0 <= check["max_abs_error"] < 1e-4
    assert check["settings"] == len(bundle.card.usable_scorings) == len(SCORINGS) - 1
    assert check["images"] == 4
    assert check["against"].startswith("PyTorch 2.")
    assert not list(loaded.path.glob(".*"))


@pytest.mark.parametrize("scoring", SCORINGS)
def test_engine_agrees_with_torch_at_sizes_and_batches_never_exported(bundle: ModelBundle, scoring: str) -> None:
    engine = create_engine(bundle)
    prompts = pack(bundle.load_prompt_set("traffic_ood"), LIMITS, bundle.card.temperature, scoring)
    rng = np.random.default_rng(7)
    for shape in ((1, 32, 160, 3), (3, 80, 48, 3)):
        images = rng.integers(0, 256, shape, dtype=np.uint8)
        score = engine.infer(images, prompts)
        assert score.shape == (shape[0], shape[1] // STRIDE, shape[2] // STRIDE)
        np.testing.assert_allclose(score, run_torch(TinyMaskNetwork().eval(), images, prompts), atol=2e-4)


def test_stretched_bundle_has_a_fixed_size_and_a_free_batch(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "fixed", "stretch")
    image = onnx.load(str(bundle.onnx_path)).graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in image] == ["batch", HEIGHT, WIDTH, 3]
    engine = create_engine(bundle)
    prompts = pack(bundle.load_prompt_set(), LIMITS, 1.0)
    assert engine.infer(np.zeros((3, HEIGHT, WIDTH, 3), np.uint8), prompts).shape[0] == 3
    with pytest.raises(Vl4adError, match="could not run"):
        engine.infer(np.zeros((1, HEIGHT + 4, WIDTH, 3), np.uint8), prompts)


def test_graph_tells_nothing_of_the_machine_that_made_it(bundle: ModelBundle) -> None:
    content = bundle.onnx_path.read_bytes()
    assert not any(note in content for note in (b"stack_trace", b"pkg.torch", b"pkg.onnxscript"))
    assert str(Path(__file__).resolve().parents[2]).encode() not in content


def test_a_graph_that_differs_is_refused_and_the_old_bundle_stays(bundle: ModelBundle) -> None:
    class Drifting(TinyMaskNetwork):
        """Gives another answer when traced than when run."""

        def forward(self, image: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
            shift = 0.1 if torch.compiler.is_exporting() else 0.0
            return super().forward(image, a, b, c, d) + shift

    before = bundle.onnx_path.read_bytes()
    sets = [compile_prompt_set(s, ColourEncoder()) for s in mock_prompt_sets().values()]
    with pytest.raises(Vl4adError, match=r"graph differs from the network by 0\.1"):
        write_bundle(Drifting().eval(), bundle.path, tiny_card(), sets)
    assert bundle.onnx_path.read_bytes() == before
    ModelBundle.load(bundle.path)


def test_wrong_use_is_one_sentence(tmp_path: Path) -> None:
    card, sets = tiny_card(), [compile_prompt_set(mock_prompt_sets()["greys"], ColourEncoder())]
    with pytest.raises(Vl4adError, match=r"default prompt set 'traffic' is not among \['greys'\]"):
        write_bundle(TinyMaskNetwork().eval(), tmp_path / "a", card, sets)
    with pytest.raises(Vl4adError, match="call eval"):
        export_onnx(TinyMaskNetwork().train(), tmp_path / "b.onnx", card.input, 3, LIMITS)
    greys = card.model_copy(update={"default_prompt_set": "greys", "text_encoder": "other:rgb"})
    with pytest.raises(Vl4adError, match="is of the text encoder 'mock:rgb'"):
        write_bundle(TinyMaskNetwork().eval(), tmp_path / "c", greys, sets)


def test_networks_that_break_the_contract_are_refused(tmp_path: Path) -> None:
    class IgnoresPrompts(TinyMaskNetwork):
        def forward(self, image: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
            return image.to(torch.float32).mean(dim=-1)

    class TransposesBytes(TinyMaskNetwork):
        def forward(self, image: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
            turned = image.permute(0, 3, 1, 2).contiguous().to(torch.float32)
            return turned.mean(dim=1) + a.sum() + b.to(torch.float32).sum() + c.sum() + d.sum()

    spec = tiny_card("stretch").input
    with pytest.raises(Vl4adError, match="must use every prompt input"):
        export_onnx(IgnoresPrompts().eval(), tmp_path / "a.onnx", spec, 3, LIMITS)
    with pytest.raises(Vl4adError, match=r"Transpose works on the uint8 image; TensorRT needs it cast"):
        export_onnx(TransposesBytes().eval(), tmp_path / "b.onnx", spec, 3, LIMITS)


def test_compare_finds_the_worst_setting_and_refuses_nan(bundle: ModelBundle) -> None:
    engine = create_engine(bundle)
    settings = every_setting(bundle.load_prompt_set(), bundle.card)
    images = noise_batches(bundle.card.input)
    off = compare(
        engine.infer, lambda i, p: engine.infer(i, p) + np.float32(0.05 if p.scoring == "msp" else 0), settings, images
    )
    assert off["worst"] == "msp"
    assert off["max_abs_error"] == pytest.approx(0.05, abs=1e-4)
    with pytest.raises(Vl4adError, match="not finite"):
        compare(engine.infer, lambda i, p: engine.infer(i, p) * np.float32(np.nan), settings, images)
