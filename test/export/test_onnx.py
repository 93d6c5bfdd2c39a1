"""Export to ONNX and to a bundle, on a small random mask network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from mock_bundle import LIMITS, compiled_set, mock_prompt_sets
from tiny_network import HEIGHT, STRIDE, WIDTH, TinyMaskNetwork, tiny_card, write_tiny_bundle
from torch import Tensor

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.bundle_writer import write_bundle
from vl4ad_ros.network.onnx_export import export_onnx, run_torch
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.engine import create_engine
from vl4ad_ros.runtime.graph_compare import compare, every_setting, noise_batches
from vl4ad_ros.runtime.prompt_tensors import pack
from vl4ad_ros.runtime.scores import SCORINGS


def test_bundle_is_complete_and_carries_the_measured_error(tiny_bundle: ModelBundle) -> None:
    loaded = ModelBundle.load(tiny_bundle.path)
    assert loaded.prompt_set_names() == sorted(mock_prompt_sets())
    check = loaded.card.scores["onnx_check"]
    assert 0 <= check["max_abs_error"] < 1e-4
    assert check["settings"] == len(tiny_bundle.card.usable_scorings) == len(SCORINGS) - 1
    assert check["images"] == 4
    assert check["against"].startswith("PyTorch 2.")
    assert not list(loaded.path.glob(".*"))


@pytest.mark.parametrize("scoring", SCORINGS)
def test_engine_agrees_with_torch_at_sizes_and_batches_never_exported(tiny_bundle: ModelBundle, scoring: str) -> None:
    engine = create_engine(tiny_bundle)
    prompts = pack(tiny_bundle.load_prompt_set("traffic_ood"), LIMITS, tiny_bundle.card.temperature, scoring)
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


def test_graph_tells_nothing_of_the_machine_that_made_it(tiny_bundle: ModelBundle) -> None:
    content = tiny_bundle.onnx_path.read_bytes()
    assert not any(note in content for note in (b"stack_trace", b"pkg.torch", b"pkg.onnxscript"))
    assert str(Path(__file__).resolve().parents[2]).encode() not in content


def test_a_graph_that_differs_is_refused_and_the_old_bundle_stays(tiny_bundle: ModelBundle) -> None:
    class Drifting(TinyMaskNetwork):
        """Gives another answer when traced than when run."""

        def forward(self, image: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
            shift = 0.1 if torch.compiler.is_exporting() else 0.0
            return super().forward(image, a, b, c, d) + shift

    before = tiny_bundle.onnx_path.read_bytes()
    sets = [compiled_set(name) for name in mock_prompt_sets()]
    with pytest.raises(Vl4adError, match=r"graph differs from the network by 0\.1"):
        write_bundle(Drifting().eval(), tiny_bundle.path, tiny_card(), sets)
    assert tiny_bundle.onnx_path.read_bytes() == before
    ModelBundle.load(tiny_bundle.path)


def test_wrong_use_is_one_sentence(tmp_path: Path) -> None:
    card, sets = tiny_card(), [compiled_set("greys")]
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


def test_compare_finds_the_worst_setting_and_refuses_nan(tiny_bundle: ModelBundle) -> None:
    engine = create_engine(tiny_bundle)
    settings = every_setting(tiny_bundle.load_prompt_set(), tiny_bundle.card)
    images = noise_batches(tiny_bundle.card.input)
    off = compare(
        engine.infer, lambda i, p: engine.infer(i, p) + np.float32(0.05 if p.scoring == "msp" else 0), settings, images
    )
    assert off["worst"] == "msp"
    assert off["max_abs_error"] == pytest.approx(0.05, abs=1e-4)
    with pytest.raises(Vl4adError, match="not finite"):
        compare(engine.infer, lambda i, p: engine.infer(i, p) * np.float32(np.nan), settings, images)
