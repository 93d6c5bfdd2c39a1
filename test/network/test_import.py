"""Whole checkpoints: what is refused, and what becomes of backbone, text tower and head."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from reference_head import Sizes, random_state
from torch import Tensor

from vl4ad_ros.cli.main import main
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.checkpoint import load_network
from vl4ad_ros.network.fcclip import load_head, read_checkpoint
from vl4ad_ros.network.fcclip_sizes import head_config
from vl4ad_ros.network.head import SegmentationHead
from vl4ad_ros.network.importing import _config, import_head
from vl4ad_ros.prompts.compile import compile_prompt_set
from vl4ad_ros.prompts.encoders import create_encoder
from vl4ad_ros.prompts.schema import PromptSet

DIM = 24
SIZES = Sizes((40, 80, 160, 320), 32, 32, 4, 1, 32, 2, 32, 5, DIM)
MODEL = "vl4ad_test_convnext"
BACKBONE = ("--backbone", f"open_clip:{MODEL}", "--text-encoder", f"open_clip:{MODEL}/test")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A CLIP small enough for a test, registered with open_clip under its own name."""
    config = {
        "embed_dim": DIM,
        "vision_cfg": {"timm_model_name": "convnext_atto", "timm_pool": "", "timm_proj": "mlp", "image_size": 64},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    path = tmp_path_factory.mktemp("configs") / f"{MODEL}.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    torch.manual_seed(1)
    return open_clip.create_model(MODEL).eval()


@pytest.fixture
def state(clip: Any) -> dict[str, Tensor]:
    towers = {f"backbone.clip_model.{key}": value for key, value in clip.state_dict().items()}
    # A checkpoint of a training run carries the loss's class weights, too.
    return {**towers, **random_state(SIZES, 5), "criterion.empty_weight": torch.ones(4)}


def save(path: Path, state: dict[str, Tensor]) -> str:
    torch.save({"model": state, "iteration": 3}, path)
    return str(path)


def test_a_whole_checkpoint_becomes_network_and_text_tower(
    tmp_path: Path, clip: Any, state: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "network"
    assert main(["import-fcclip", save(tmp_path / "c.pth", state), "--out", str(out), *BACKBONE]) == 0
    assert "temperature of Eq. 1: 0.049787" in capsys.readouterr().out  # exp(-3)
    network = load_network(out)
    assert network.temperature == pytest.approx(np.exp(-3), rel=1e-5)
    assert network.config.origin.startswith("FC-CLIP checkpoint c.pth, sha256 ")

    image = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor(network.config.mean), torch.tensor(network.config.std)
    normal = ((image.float() - mean) / std).permute(0, 3, 1, 2)
    expected = clip.visual.trunk.forward_intermediates(normal, intermediates_only=True)
    features = network.features(image)
    assert [tuple(f.shape[1:]) for f in features] == [(40, 16, 24), (80, 8, 12), (160, 4, 6), (320, 2, 3)]
    torch.testing.assert_close(features[-1], expected[-1], atol=1e-5, rtol=1e-4)
    alone = import_head(tmp_path / "c.pth").head
    for found, wanted in zip(network.heads(features)[-1], alone(features)[-1], strict=True):
        torch.testing.assert_close(found, wanted, atol=0, rtol=0)

    encoder = create_encoder(f"open_clip:{MODEL}/test", out / "text_encoder.safetensors")
    tokens = open_clip.get_tokenizer(MODEL)(["a cow", "a dog"])
    with torch.no_grad():
        wanted = F.normalize(clip.encode_text(tokens), dim=-1).numpy()
    np.testing.assert_allclose(encoder.encode(["a cow", "a dog"]), wanted, atol=1e-6)


def test_a_training_vocabulary_switches_the_ensemble_on(tmp_path: Path, clip: Any, state: dict[str, Tensor]) -> None:
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    encoder = create_encoder(f"open_clip:{MODEL}/test", tmp_path / "clip.pt")
    vocabulary = compile_prompt_set(
        PromptSet(name="train", classes={"road": ["road"], "car": ["car", "cars"]}), encoder
    )
    vocabulary.save(tmp_path / "train.safetensors")
    arguments = ["import-fcclip", save(tmp_path / "c.pth", state), "--out", str(tmp_path / "n"), *BACKBONE]
    assert main([*arguments, "--train-vocabulary", str(tmp_path / "train.safetensors")]) == 0
    network = load_network(tmp_path / "n")
    assert network.ensemble is not None
    np.testing.assert_array_equal(network.ensemble.vocabulary.numpy(), vocabulary.embeddings)
    text = torch.from_numpy(encoder.encode(["a photo of a cow", "a photo of a dog"]))
    rows = torch.cat([torch.from_numpy(vocabulary.embeddings.copy()), text])
    # Columns: road; car and cars; cow and road (one known synonym is enough); dog.
    table = torch.tensor([[0, 0], [1, 2], [3, 0], [4, 4]])
    np.testing.assert_allclose(network.ensemble.exponents(rows, table).numpy(), [0.4, 0.4, 0.4, 0.8], atol=1e-6)


def test_a_head_alone_needs_clip_weights(
    tmp_path: Path, clip: Any, state: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    head = save(tmp_path / "head.pth", random_state(SIZES, 5))
    assert main(["import-fcclip", head, "--out", str(tmp_path / "n"), *BACKBONE]) == 2
    assert "--clip-weights" in capsys.readouterr().err
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    arguments = ["import-fcclip", head, "--out", str(tmp_path / "n"), *BACKBONE, "--clip-weights"]
    assert main([*arguments, str(tmp_path / "clip.pt")]) == 0
    whole = save(tmp_path / "c.pth", state)
    assert main(["import-fcclip", whole, "--out", str(tmp_path / "w"), *BACKBONE]) == 0
    both = [load_network(tmp_path / name).state_dict() for name in ("n", "w")]
    assert all(torch.equal(both[0][key], both[1][key]) for key in both[1])
    assert main(["import-fcclip", head, "--out", str(tmp_path / "n"), *BACKBONE, "--clip-weights", head]) == 2
    capsys.readouterr()
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    assert main([*arguments, str(tmp_path / "list.pt")]) == 2
    said = capsys.readouterr().err
    assert said.endswith("list.pt: cannot be read as open_clip weights (it holds no names and tensors).\n")


def test_every_difference_is_listed(
    tmp_path: Path, state: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    del state["sem_seg_head.predictor.decoder_norm.bias"]
    del state["backbone.clip_model.visual.trunk.stem.0.bias"]
    state["sem_seg_head.predictor.static_query.weight"] = torch.zeros(1)
    state["backbone.clip_model.ln_final.weight"] = torch.ones(17)
    checkpoint = save(tmp_path / "c.pth", state)
    assert main(["import-fcclip", checkpoint, "--out", str(tmp_path / "n"), *BACKBONE]) == 2
    said = capsys.readouterr().err
    assert "missing: sem_seg_head.predictor.decoder_norm.bias (32,)" in said
    assert "unexpected: sem_seg_head.predictor.static_query.weight (1,)" in said
    state["sem_seg_head.predictor.decoder_norm.bias"] = torch.zeros(32)
    del state["sem_seg_head.predictor.static_query.weight"]
    assert main(["import-fcclip", save(tmp_path / "c.pth", state), "--out", str(tmp_path / "n"), *BACKBONE]) == 2
    said = capsys.readouterr().err
    assert "missing: backbone.clip_model.visual.trunk.stem.0.bias (40,)" in said
    assert "wrong shape: backbone.clip_model.ln_final.weight (17,), expected (16,)" in said
    assert not (tmp_path / "n").exists()


def test_any_damaged_tensor_of_the_head_is_named() -> None:
    good = random_state(SIZES, 5)
    for key, tensor in good.items():
        for damage in ("missing", "shape"):
            state = {name: value for name, value in good.items() if name != key}
            if damage == "shape":
                state[key] = torch.zeros([size + 32 for size in tensor.shape] or [2])
            if key.endswith(("adapter_1.weight", "input_proj.0.0.weight")) and damage == "shape":
                continue  # other channels of the backbone, as far as a head alone can tell
            with pytest.raises(Vl4adError, match=key.replace(".", r"\.")):
                load_head(SegmentationHead(head_config(state, "file")), state, "file")


def listed(state: dict[str, Tensor]) -> list[str]:
    """The differences that are named for a head's checkpoint, one a line."""
    with pytest.raises(Vl4adError, match="not a checkpoint of this network") as refused:
        load_head(SegmentationHead(head_config(state, "file")), state, "file")
    return str(refused.value).split("\n  ")


def test_a_size_that_nothing_tells_hides_no_other_difference() -> None:
    state = random_state(SIZES, 5)
    for key in ("pixel_decoder.adapter_1.weight", "predictor.decoder_norm.bias"):
        del state[f"sem_seg_head.{key}"]
    state["foo.bar"] = torch.zeros(2, 3)
    state["sem_seg_head.predictor.level_embed.weight"] = torch.zeros(4, 32)
    assert listed(state) == [
        "file: not a checkpoint of this network (2 missing, 1 unexpected, 1 of another shape):",
        "missing: sem_seg_head.pixel_decoder.adapter_1.weight (32, ?, 1, 1)",
        "missing: sem_seg_head.predictor.decoder_norm.bias (32,)",
        "unexpected: foo.bar (2, 3)",
        "wrong shape: sem_seg_head.predictor.level_embed.weight (4, 32), expected (3, 32)",
    ]


def test_every_single_witness_may_be_missing_at_once() -> None:
    """Of a checkpoint cut short, the list is still whole: each tensor that is not there, and no other."""
    state = random_state(replace(SIZES, decoder_layers=1), 5)
    for part in ("pixel_decoder.", "predictor.transformer_", "predictor.query_", "predictor.class_embed"):
        left = {key: value for key, value in state.items() if f"sem_seg_head.{part}" not in key}
        lines = listed(left)[1:]
        if part.endswith(("decoder.", "transformer_")):
            assert re.fullmatch(r"nothing tells the number of \w+_layers: one layer's are listed", lines.pop())
        assert all(line.startswith("missing: ") for line in lines), part
        assert {line.split(" ")[1] for line in lines} == state.keys() - left.keys(), part


def test_tensors_that_disagree_are_named_with_all_other_differences() -> None:
    state = random_state(SIZES, 5)
    state["sem_seg_head.predictor.query_feat.weight"] = torch.zeros(6, 32)
    state["foo.bar"] = torch.zeros(1)
    lines = listed(state)
    assert lines[1] == "unexpected: foo.bar (1,)"
    assert "disagree about num_queries" in lines[2]
    assert "query_feat.weight (6, 32)" in lines[2] and "query_embed.weight (5, 32)" in lines[2]


@pytest.mark.parametrize(
    "part",
    [
        "pixel_decoder.transformer.encoder.layers.7",
        "predictor.transformer_ffn_layers.7",
        "predictor.transformer_ffn_layers.999999999",
        "predictor.input_proj.0",
    ],
)
def test_a_stray_tensor_makes_no_layers(part: str) -> None:
    state = random_state(SIZES, 5)
    state[f"sem_seg_head.{part}.norm1.weight"] = torch.zeros(32)
    assert listed(state)[1:] == [f"unexpected: sem_seg_head.{part}.norm1.weight (32,)"]


def test_a_layer_that_is_missing_as_a_whole_is_listed() -> None:
    state = random_state(SIZES, 5)
    gone = {key for key in state if "_layers.0." in key}
    lines = listed({key: value for key, value in state.items() if key not in gone})
    assert {line.split(" ")[1] for line in lines[1:]} == gone


def test_impossible_sizes_are_one_sentence(tmp_path: Path, state: dict[str, Tensor]) -> None:
    with pytest.raises(Vl4adError, match=r"^file: not an FC-CLIP checkpoint, it has no sem_seg_head"):
        head_config({"fc.weight": torch.zeros(2, 3)}, "file")
    with pytest.raises(Vl4adError) as refused:
        head_config(random_state(Sizes((8, 8, 8, 8), 48, 48, 4, 1, 8, 1, 8, 2, 8), 5), "file")
    expected = "file: the checkpoint's sizes are impossible: conv_dim: Input should be a multiple of 32 (got 48)."
    assert str(refused.value) == expected
    imported = import_head(Path(save(tmp_path / "c.pth", state)))
    with pytest.raises(Vl4adError) as refused:
        _config(imported.head.config, "open_clip:x", 3, imported.source, None)  # type: ignore[arg-type]
    assert re.fullmatch(r"\S+c\.pth: text_encoder: Input should be a valid string \(got 3\)\.", str(refused.value))


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("executed",))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": random_state(SIZES, 5), "extra": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(Vl4adError, match="weights only"):
        read_checkpoint(tmp_path / "evil.pth")
    assert "executed" not in capsys.readouterr().out
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(Vl4adError, match=r"text\.pth"):
        read_checkpoint(tmp_path / "text.pth")


def test_network_files_are_checked(tmp_path: Path, state: dict[str, Tensor]) -> None:
    assert main(["import-fcclip", save(tmp_path / "c.pth", state), "--out", str(tmp_path / "n"), *BACKBONE]) == 0
    with pytest.raises(Vl4adError, match=r"network\.json"):
        load_network(tmp_path)
    config = json.loads((tmp_path / "n" / "network.json").read_text())
    config["head"]["num_queries"] = 6
    (tmp_path / "n" / "network.json").write_text(json.dumps(config))
    with pytest.raises(Vl4adError, match=r"wrong shape: head\.query_decoder\.queries_embedder\.weight \(5, 32\)"):
        load_network(tmp_path / "n")
    (tmp_path / "n" / "network.safetensors").write_bytes(b"short")
    with pytest.raises(Vl4adError, match=r"network\.safetensors"):
        load_network(tmp_path / "n")
