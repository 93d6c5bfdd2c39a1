"""Whole checkpoints: what is refused, and what becomes of backbone, text tower and head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from mask_bundle import CONFIG
from reference_head import PIXEL, random_state
from run_cli import Cli
from torch import Tensor

from vl4ad_ros.cli.main import main
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.checkpoint import load_network
from vl4ad_ros.network.fcclip import read_checkpoint
from vl4ad_ros.network.importing import import_head
from vl4ad_ros.prompts.compile import compile_prompt_set
from vl4ad_ros.prompts.encoders import create_encoder
from vl4ad_ros.prompts.schema import VILD, PromptSet
from vl4ad_ros.runtime.bundle import ModelBundle

DIM = 24
HEAD = CONFIG.head.model_copy(update={"num_queries": 5, "embedding_dim": DIM})
MODEL = "vl4ad_test_convnext"
TOWERS = ("--backbone", f"open_clip:{MODEL}", "--text-encoder", f"open_clip:{MODEL}/test")
BACKBONE = (*TOWERS, "--ensemble", "off")


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
    return {**towers, **random_state(HEAD, 5), "criterion.empty_weight": torch.ones(4)}


def save(path: Path, state: dict[str, Tensor]) -> str:
    torch.save({"model": state, "iteration": 3}, path)
    return str(path)


def test_a_whole_checkpoint_becomes_network_and_text_tower(
    tmp_path: Path, clip: Any, state: dict[str, Tensor], cli: Cli
) -> None:
    out = tmp_path / "network"
    said = cli("import-fcclip", save(tmp_path / "c.pth", state), "--out", out, *BACKBONE)
    assert "0.049787" in said  # exp(-3)
    network = load_network(out)
    assert network.temperature == pytest.approx(np.exp(-3), rel=1e-5)
    assert network.config.origin.startswith("FC-CLIP checkpoint c.pth, sha256 ")

    image = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor(network.config.mean), torch.tensor(network.config.std)
    normal = ((image.float() - mean) / std).permute(0, 3, 1, 2)
    trunk = clip.visual.trunk
    with torch.no_grad():
        expected = trunk.stages(trunk.stem(normal))
    features = network.features(image)
    assert [tuple(f.shape[1:]) for f in features] == [(40, 16, 24), (80, 8, 12), (160, 4, 6), (320, 2, 3)]
    torch.testing.assert_close(features[-1], expected, atol=1e-5, rtol=1e-4)
    alone = import_head(tmp_path / "c.pth").head
    for found, wanted in zip(network.head(features)[-1], alone(features)[-1], strict=True):
        torch.testing.assert_close(found, wanted, atol=0, rtol=0)

    encoder = create_encoder(f"open_clip:{MODEL}/test", out / "text_encoder.safetensors")
    tokens = open_clip.get_tokenizer(MODEL)(["a cow", "a dog"])
    with torch.no_grad():
        rows = F.normalize(clip.encode_text(tokens), dim=-1).numpy()
    np.testing.assert_allclose(encoder.encode(["a cow", "a dog"]), rows, atol=1e-6)


def test_a_training_vocabulary_switches_the_ensemble_on(tmp_path: Path, clip: Any, state: dict[str, Tensor]) -> None:
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    encoder = create_encoder(f"open_clip:{MODEL}/test", tmp_path / "clip.pt")
    vocabulary = compile_prompt_set(
        PromptSet(name="train", classes={"road": ["road"], "car": ["car", "cars"]}), encoder
    )
    vocabulary.save(tmp_path / "train.safetensors")
    arguments = ["import-fcclip", save(tmp_path / "c.pth", state), "--out", str(tmp_path / "n"), *TOWERS]
    arguments += ["--train-vocabulary", str(tmp_path / "train.safetensors"), "--ensemble", "always"]
    assert main(arguments) == 0
    network = load_network(tmp_path / "n")
    assert network.ensemble is not None and not network.ensemble.on_valid_mask
    np.testing.assert_array_equal(network.ensemble.vocabulary.numpy(), vocabulary.embeddings)
    text = torch.from_numpy(encoder.encode(["a photo of a cow", "a photo of a dog"]))
    rows = torch.cat([torch.from_numpy(vocabulary.embeddings.copy()), text])
    # Columns: road; car and cars; cow and road (one known synonym is enough); dog.
    table = torch.tensor([[0, 0], [1, 2], [3, 0], [4, 4]])
    np.testing.assert_allclose(network.ensemble.exponents(rows, table).numpy(), [0.4, 0.4, 0.4, 0.8], atol=1e-6)


def test_a_bundle_is_made_in_one_go(
    tmp_path: Path, clip: Any, state: dict[str, Tensor], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a few classes in place of the shipped sets' many."""
    sets = {"trained": {"road": ["road"], "car": ["car", "cars"]}, "tested": {"road": ["road"], "cow": ["cow"]}}
    for name, classes in sets.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"name": name, "classes": classes}))
    monkeypatch.setattr("vl4ad_ros.cli.import_fcclip.VOCABULARY", tmp_path / "trained.json")
    monkeypatch.setattr("vl4ad_ros.cli.import_fcclip.ROAD_SETS", (tmp_path / "tested.json",))
    state[PIXEL + "mask_features.bias"] *= -30  # no pixel on a mask's edge, where PyTorch and ONNX Runtime may differ
    arguments = ["import-fcclip", save(tmp_path / "c.pth", state), "--bundle", str(tmp_path / "bundle"), *TOWERS]
    assert "--out" in cli.error(*arguments)
    cli(*arguments, "--out", tmp_path / "n", "--size", "64x96", "--precision", "float32")
    bundle = ModelBundle.load(tmp_path / "bundle")
    assert (bundle.card.input.height, bundle.card.input.width) == (64, 96)
    assert bundle.card.vocabulary_templates == VILD
    assert bundle.load_prompt_set().columns == ("road", "cow")


def test_a_head_alone_needs_clip_weights(tmp_path: Path, clip: Any, state: dict[str, Tensor], cli: Cli) -> None:
    head = save(tmp_path / "head.pth", random_state(HEAD, 5))
    arguments = ["import-fcclip", head, "--out", str(tmp_path / "n"), *BACKBONE]
    assert "--clip-weights" in cli.error(*arguments)
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    cli(*arguments, "--clip-weights", tmp_path / "clip.pt")
    whole = save(tmp_path / "c.pth", state)
    cli("import-fcclip", whole, "--out", tmp_path / "w", *BACKBONE)
    both = [load_network(tmp_path / name).state_dict() for name in ("n", "w")]
    assert all(torch.equal(both[0][key], both[1][key]) for key in both[1])
    cli.error(*arguments, "--clip-weights", head)
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    assert "list.pt" in cli.error(*arguments, "--clip-weights", tmp_path / "list.pt")


def test_every_difference_is_listed(
    tmp_path: Path, state: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(changed: dict[str, Tensor]) -> str:
        assert main(["import-fcclip", save(tmp_path / "c.pth", changed), "--out", str(tmp_path / "n"), *BACKBONE]) == 2
        assert not (tmp_path / "n").exists()
        return capsys.readouterr().err

    head = {**state, "sem_seg_head.predictor.static_query.weight": torch.zeros(1)}
    del head["sem_seg_head.predictor.decoder_norm.bias"]
    printed = refused(head)
    assert "missing: sem_seg_head.predictor.decoder_norm.bias (32,)" in printed
    assert "unexpected: sem_seg_head.predictor.static_query.weight (1,)" in printed
    tower = {**state, "backbone.clip_model.ln_final.weight": torch.ones(17)}
    del tower["backbone.clip_model.visual.trunk.stem.0.bias"]
    printed = refused(tower)
    assert "missing: backbone.clip_model.visual.trunk.stem.0.bias (40,)" in printed
    assert "wrong shape: backbone.clip_model.ln_final.weight (17,), expected (16,)" in printed


def test_the_state_of_optimisers_and_hooks_is_passed_over(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimiser = torch.optim.AdamW([weight], lr=np.float64(0.1))
    weight.sum().backward()
    optimiser.step()
    hooks = {"best": np.float32(3), "iteration": np.int64(2)}
    content = {"model": {"a": torch.ones(2)}, "optimizer": optimiser.state_dict(), "trainer": {"hooks": hooks}}
    torch.save(content, tmp_path / "run.pth")
    assert list(read_checkpoint(tmp_path / "run.pth")) == ["a"]


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("executed",))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": random_state(HEAD, 5), "extra": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(Vl4adError, match=r"weights only.*torch\.save\(\{'model': c\['model'\]\}"):
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
