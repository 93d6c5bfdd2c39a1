"""Both kinds of networks: what they learn from, and the bundles that they become."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_run import SHAPE, SMALL, make_config, make_trainer
from torch.utils.data import default_collate
from toy_text import ToyEncoder

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.checkpoint import load_network, save_network
from vl4ad_ros.network.config import VL4AD_TINY, HeadConfig
from vl4ad_ros.network.lite_encoder import BATCH_NORM_EPS, InvertedResidual, LiteEncoder, load_encoder_weights
from vl4ad_ros.network.model import VL4ADNetwork
from vl4ad_ros.network.onnx_export import run_torch
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.prompt_tensors import pack
from vl4ad_ros.runtime.scores import to_uncertainty
from vl4ad_ros.training.checkpoint import BEST, LAST
from vl4ad_ros.training.label_tables import IGNORE
from vl4ad_ros.training.learner import LIMITS
from vl4ad_ros.training.loop import Trainer
from vl4ad_ros.training.mask_learner import outlier_term, segments
from vl4ad_ros.training.report import RunReport
from vl4ad_ros.training.stream import Sample, SampleStream

SINGLE = {"0": "sky", "1": "road", "2": "car"}
PICTURE = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)


def batch(samples: SampleStream) -> Sample:
    image, rows, weights, names = default_collate([samples[index] for index in range(2)])
    return image, rows, weights, names


def uncertainty_of(trainer: Trainer, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """1 - the largest posterior of a class, as training sees it."""
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        logits = trainer.averaged.dense_logits(tensor, trainer.text.class_concepts())[0]
    return np.asarray((1 - logits.softmax(0)[:-1].amax(0)).clamp(0, 1).numpy(), dtype=np.float32)


def test_training_learns_the_made_up_world(tmp_path: Path, tiny_data: Path) -> None:
    losses: list[float] = []

    class Losses(RunReport):
        def listen(self, step: int, figures: dict[str, float]) -> None:
            losses.extend([figures["loss"]] if "loss" in figures else [])

    optimizer = {"steps": 30, "warmup": 4, "cooldown": 10, "rate": 5e-3, "encoder_rate": 2e-3, "ema": 0.9}
    config = make_config(tiny_data, tmp_path, optimizer=optimizer, batch=4)
    trainer = make_trainer(config, report=Losses(config))
    before = trainer.validate()
    trainer.run()
    after = trainer.validate()
    assert np.mean(losses[-8:]) < 0.75 * np.mean(losses[:8])
    assert after["miou/val"] > before["miou/val"] + 0.1
    assert (tmp_path / BEST).is_file()
    assert (tmp_path / LAST).is_file()


def test_frozen_stages_get_no_gradient(tmp_path: Path, tiny_data: Path) -> None:
    trainer = make_trainer(make_config(tiny_data, tmp_path, model={**SMALL, "freeze_stages": 2}))
    torch.autograd.backward(trainer.loss(batch(trainer.data.samples), 0)[0])
    with_gradient = {name for name, p in trainer.learner.named_parameters() if p.grad is not None}
    assert not any(name.startswith(("network.encoder.stem", "network.encoder.stages.1.")) for name in with_gradient)
    assert any(name.startswith("network.encoder.stages.2.") for name in with_gradient)


def test_folded_batch_norm_is_the_original(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = LiteEncoder()
    state: dict[str, torch.Tensor] = {}

    def add(conv: str, norm: str, shape: tuple[int, ...]) -> None:
        state[f"{conv}.weight"] = torch.randn(shape) * 0.1
        for part in ("weight", "running_var"):
            state[f"{norm}.{part}"] = torch.rand(shape[0]) + 0.5
        for part in ("bias", "running_mean"):
            state[f"{norm}.{part}"] = torch.randn(shape[0])

    add("_conv_stem", "_bn0", (32, 3, 3, 3))
    for index, block in enumerate(block for stage in encoder.stages for block in stage.children()):
        assert isinstance(block, InvertedResidual)
        parts = ((block.expand, "expand", "0"), (block.depthwise, "depthwise", "1"), (block.project, "project", "2"))
        for part, conv, norm in parts:
            if part is not None:
                shape = next(m for m in part.modules() if isinstance(m, torch.nn.Conv2d)).weight.shape
                add(f"_blocks.{index}._{conv}_conv", f"_blocks.{index}._bn{norm}", tuple(shape))
    torch.save(state, tmp_path / "w.pth")
    load_encoder_weights(encoder, tmp_path / "w.pth")
    x = torch.randn(1, 3, 32, 32)
    plain = torch.nn.functional.conv2d(torch.nn.functional.pad(x, (0, 1, 0, 1)), state["_conv_stem.weight"], stride=2)
    mean, variance = state["_bn0.running_mean"], state["_bn0.running_var"]
    scale, shift = state["_bn0.weight"], state["_bn0.bias"]
    wanted = torch.nn.functional.batch_norm(plain, mean, variance, scale, shift, eps=BATCH_NORM_EPS)
    assert torch.allclose(encoder.stem(x), wanted, atol=1e-4)
    del state["_blocks.3._bn1.bias"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(Vl4adError, match="not an EfficientNet-Lite0 state dict"):
        load_encoder_weights(encoder, tmp_path / "w.pth")


def test_bundle_of_a_run_detects(trained: tuple[Trainer, ModelBundle]) -> None:
    trainer, bundle = trained
    assert bundle.card.scores["onnx_check"]["max_abs_error"] < 1e-4
    assert bundle.card.scores["validation"]["choice"] == 0.5
    assert bundle.card.text_encoder == "toy:linear"
    assert 0 <= bundle.card.default_threshold <= 1
    detector = Detector.open(bundle.path)
    prompts = detector.prompts(scoring="vl4ad")
    raw = detector.engine.infer(PICTURE[None], prompts)[0]  # At this size, not at the card's.
    wanted = uncertainty_of(trainer, PICTURE)
    assert np.abs(to_uncertainty(raw, prompts.scoring, prompts.temperature) - wanted).max() < 1e-3
    assert detector.detect(PICTURE, prompts).shape == SHAPE
    detector.close()


def test_the_twin_s_class_vectors_act_as_its_prompts(tmp_path: Path, tiny_data: Path) -> None:
    trainer = make_trainer(make_config(tiny_data, tmp_path, model={**SMALL, "head": "linear"}))
    learner = trainer.averaged
    twin = learner.prompts("tiny")
    assert twin.encoder_id == "linear:tiny"
    raw = run_torch(learner.graph(), PICTURE[None], pack(twin, LIMITS, learner.temperature))[0]
    assert np.abs(1 + raw - uncertainty_of(trainer, PICTURE)).max() < 1e-4
    trainer.train_step(batch(trainer.data.samples))
    taught = dict(trainer.learner.named_parameters())["name_vectors"].grad
    assert taught is not None and taught.abs().sum() > 0


@pytest.fixture(scope="session")
def mask_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a mask network with random weights, of the toy text space."""
    sizes = {"conv_dim": 32, "hidden_dim": 32, "mask_dim": 32, "num_heads": 4, "encoder_ffn": 32, "decoder_ffn": 32}
    layers = {"encoder_layers": 1, "decoder_layers": 2, "num_queries": 8, "embedding_dim": ToyEncoder.dim}
    head = HeadConfig.model_validate({**sizes, **layers, "feature_channels": VL4AD_TINY.head.feature_channels})
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("mask_network")
    save_network(VL4ADNetwork(VL4AD_TINY.model_copy(update={"head": head})), folder)
    return folder


def mask_trainer(tiny_data: Path, output: Path, network: Path, head: str = "text", outlier: float = 0.0) -> Trainer:
    config = make_config(
        tiny_data,
        output,
        model={"network": str(network), "head": head},
        mask_losses={"points": 64, "outlier": outlier},
        datasets=[{"name": "tiny", "root": "frames", "classes": SINGLE, "scale": [0.9, 1.3]}],
        validation={"sets": [{"name": "val", "root": "val", "classes": SINGLE}], "pixels": 6144, "generated": 0},
    )
    return make_trainer(config)


@pytest.mark.parametrize("head", ["text", "linear"])
def test_mask_network_trains_its_head_alone(tmp_path: Path, tiny_data: Path, mask_network: Path, head: str) -> None:
    trainer = mask_trainer(tiny_data, tmp_path, mask_network, head)
    learner = trainer.learner
    tower = {name: value.clone() for name, value in learner.state_dict().items() if ".backbone." in name}
    sample = batch(trainer.data.samples)
    losses = [trainer.train_step(sample)["loss"] for _ in range(6)]
    assert losses[-1] < losses[0]
    assert tower
    assert all(torch.equal(value, learner.state_dict()[name]) for name, value in tower.items())
    learner.eval()
    maps = learner.dense_logits(sample[0].float(), trainer.text.class_concepts())
    assert maps.shape == (2, 5, 16, 24)
    assert maps.max() <= 1e-4 + np.log(8), "no more than all queries' sum"


def test_ignored_pixels_have_no_part_in_a_mask_network_s_losses(
    tmp_path: Path, tiny_data: Path, mask_network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = mask_trainer(tiny_data, tmp_path, mask_network)
    image, rows, weights, names = batch(trainer.data.samples)
    rows[:, :, 12:] = IGNORE
    masks: list[torch.Tensor] = []
    forward = trainer.learner.forward

    def keep(*args: Any, **settings: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
        predictions: list[tuple[torch.Tensor, torch.Tensor]] = list(forward(*args, **settings))  # type: ignore[arg-type]
        for mask, _ in predictions:
            mask.retain_grad()
            masks.append(mask)
        return predictions

    monkeypatch.setattr(trainer.learner, "forward", keep)
    torch.autograd.backward(trainer.loss((image, rows, weights, names), 0)[0])
    assert masks
    for mask in masks:
        assert mask.grad is not None
        assert mask.grad[..., 12:].abs().max() == 0
        assert mask.grad[..., :12].abs().max() > 0


def test_outlier_term_by_hand() -> None:
    masks = torch.full((1, 1, 1, 2), 100.0)
    logits = torch.tensor([[[0.6, 0.3, 0.1]]]).log()
    outside = torch.tensor([[[True, False]]])
    claimed = math.tanh(0.6) + math.tanh(0.3)
    term = outlier_term(masks, logits, outside, -0.2)
    assert term.total.item() == pytest.approx((claimed - 0.2) ** 2, abs=1e-5)
    assert term.weight.item() == 1
    assert outlier_term(-masks, logits, outside, -0.2).total.item() == 0, "what nothing claims is far enough"


def test_an_outlier_weight_makes_its_term(tmp_path: Path, tiny_data: Path, mask_network: Path) -> None:
    without = mask_trainer(tiny_data, tmp_path / "without", mask_network)
    sample = batch(without.data.samples)
    assert "loss/outlier" not in without.loss(sample, 0)[1]
    assert mask_trainer(tiny_data, tmp_path, mask_network, outlier=1.0).loss(sample, 0)[1]["loss/outlier"] > 0


def test_a_mask_network_s_graph_gives_what_training_sees(tmp_path: Path, tiny_data: Path, mask_network: Path) -> None:
    trainer = mask_trainer(tiny_data, tmp_path, mask_network)
    learner = trainer.averaged
    prompts = pack(learner.prompts(), LIMITS, learner.temperature)
    got = np.clip(1 + run_torch(learner.graph(), PICTURE[None], prompts)[0], 0, 1)
    with torch.no_grad():
        tensor = torch.from_numpy(PICTURE).permute(2, 0, 1)[None]
        support = learner.dense_logits(tensor, trainer.text.class_concepts()).exp()
    odds = torch.nn.functional.interpolate(torch.logit(support[:, :-1], eps=1e-6), scale_factor=4.0, mode="bilinear")
    difference = np.abs(got - (1 - odds.sigmoid()[0].amax(0)).numpy())
    # Between four pixels a class that is second at each can be missed.
    assert np.quantile(difference, 0.98) < 1e-3
    assert difference.max() < 0.1
    fields = learner.card_fields()
    # Its decoders' positions are fixed at export, and so is the size.
    assert (fields["input"]["resize"], fields["num_queries"]) == ("stretch", 8)
    weights, before = learner.network.state_dict(), load_network(mask_network).state_dict()
    assert all(torch.equal(value, before[name]) for name, value in weights.items())


def test_segments_by_hand(tmp_path: Path, tiny_data: Path, mask_network: Path) -> None:
    table = mask_trainer(tiny_data, tmp_path, mask_network).data.table
    rows = torch.full((2, 2, 2), 255, dtype=torch.uint8)
    rows[0, 0, 0], rows[0, 1, 1] = int(table.lookup[0][2]), table.void
    masks, classes = segments(rows, table)
    assert classes[0].tolist() == [table.classes.index("car")]
    assert masks[0].tolist() == [[[1.0, 0.0], [0.0, 0.0]]]
    assert masks[1].shape == (0, 2, 2)
    assert len(classes[1]) == 0
