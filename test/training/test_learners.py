from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_run import SHAPE, make_config, make_text, make_trainer
from torch.utils.data import default_collate
from toy_text import ToyEncoder

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.checkpoint import load_network
from vl4ad_ros.network.config import VL4AD_TINY
from vl4ad_ros.network.lite_encoder import BATCH_NORM_EPS, InvertedResidual, LiteEncoder, load_encoder_weights
from vl4ad_ros.network.onnx_export import run_torch
from vl4ad_ros.network.small import SmallDetector
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.prompt_tensors import pack
from vl4ad_ros.runtime.scores import to_uncertainty
from vl4ad_ros.training import export
from vl4ad_ros.training.checkpoint import BEST, LAST
from vl4ad_ros.training.data import load_data
from vl4ad_ros.training.label_tables import IGNORE
from vl4ad_ros.training.learner import DenseLearner
from vl4ad_ros.training.loop import Trainer
from vl4ad_ros.training.mask_learner import MaskLearner, outlier_term, segments
from vl4ad_ros.training.objective import make_learner
from vl4ad_ros.training.stream import Sample, SampleMaker, SampleStream
from vl4ad_ros.training.text import LIMITS

SINGLE = {"0": "sky", "1": "road", "2": "car"}


def batch(maker: SampleMaker, count: int = 2) -> Sample:
    stream = SampleStream(maker)
    image, rows, weights, names = default_collate([stream[index] for index in range(count)])
    return image, rows, weights, names


def test_training_learns_the_made_up_world(tmp_path: Path, tiny_data: Path) -> None:
    config = make_config(
        tiny_data,
        tmp_path,
        optimizer={"steps": 40, "warmup": 4, "cooldown": 12, "rate": 5e-3, "encoder_rate": 2e-3, "ema": 0.9},
        batch=4,
    )
    losses: list[float] = []
    trainer = make_trainer(config, listener=lambda _, f: losses.append(f["loss"]) if "loss" in f else None)
    before = trainer.validate()
    trainer.run()
    after = trainer.validate()
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:10])
    assert after["miou/val"] > before["miou/val"] + 0.1
    assert (tmp_path / BEST).is_file()
    assert (tmp_path / LAST).is_file()


def test_frozen_stages_get_no_gradient(tmp_path: Path, tiny_data: Path) -> None:
    model = {"embed_dim": 16, "width": 16, "encoder_weights": "random", "freeze_stages": 2}
    trainer = make_trainer(make_config(tiny_data, tmp_path, model=model))
    loss, _ = trainer.loss(batch(trainer.data.maker), 0)
    torch.autograd.backward(loss)
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
    blocks = [block for stage in encoder.stages for block in stage.children()]
    for index, block in enumerate(blocks):
        assert isinstance(block, InvertedResidual)
        for part, conv, norm in (
            (block.expand, "_expand_conv", "_bn0"),
            (block.depthwise, "_depthwise_conv", "_bn1"),
            (block.project, "_project_conv", "_bn2"),
        ):
            if part is not None:
                shape = next(m for m in part.modules() if isinstance(m, torch.nn.Conv2d)).weight.shape
                add(f"_blocks.{index}.{conv}", f"_blocks.{index}.{norm}", tuple(shape))
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


def test_bundle_of_a_run_detects(tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "create_encoder", lambda *_: ToyEncoder())
    trainer = make_trainer(make_config(tiny_data, tmp_path))
    trainer.save({"choice": 0.5}, BEST)
    bundle = ModelBundle.load(export.export_best(trainer.config, trainer.data, trainer.text))
    assert bundle.card.scores["onnx_check"]["max_abs_error"] < 1e-4
    assert bundle.card.scores["validation"]["choice"] == 0.5
    assert bundle.card.text_encoder == "toy:linear"
    assert 0 <= bundle.card.default_threshold <= 1
    detector = Detector.open(bundle.path)
    image = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    wanted = uncertainty_of(trainer, image)
    prompts = detector.prompts()
    raw = detector.engine.infer(image[None], prompts)[0]  # At this size, not at the card's.
    assert np.abs(to_uncertainty(raw, prompts.scoring, prompts.temperature) - wanted).max() < 1e-3
    assert detector.detect(image, detector.prompts()).shape == SHAPE


def uncertainty_of(trainer: Trainer, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """1 - the largest posterior of a class, as training sees it."""
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        logits = trainer.averaged.learner.dense_logits(tensor, trainer.data.all_concepts())[0]
    return np.asarray((1 - logits.softmax(0)[:-1].amax(0)).clamp(0, 1).numpy(), dtype=np.float32)


def test_the_twin_s_class_vectors_act_as_its_prompts(tmp_path: Path, tiny_data: Path) -> None:
    model = {"embed_dim": 16, "width": 16, "encoder_weights": "random", "head": "linear"}
    trainer = make_trainer(make_config(tiny_data, tmp_path, model=model))
    learner = trainer.averaged.learner
    assert isinstance(learner, DenseLearner)
    (twin,) = export._prompt_sets(trainer.config, trainer.text, learner)
    assert twin.encoder_id == "linear:tiny"
    packed = pack(twin, LIMITS, learner.temperature)
    image = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    detector = SmallDetector(learner.network, learner.void).eval()
    raw = run_torch(detector, image[None], packed)[0]
    assert np.abs(1 + raw - uncertainty_of(trainer, image)).max() < 1e-4


class WideToy(ToyEncoder):
    dim = VL4AD_TINY.head.embedding_dim


def mask_trainer(
    tiny_data: Path, output: Path, head: str, monkeypatch: pytest.MonkeyPatch, outlier: float = 0.0, **model: str
) -> tuple[Trainer, MaskLearner]:
    import tiny_run

    monkeypatch.setattr(tiny_run, "ToyEncoder", WideToy)
    config = make_config(
        tiny_data,
        output,
        model={"network": "vl4ad-tiny", "head": head, "encoder_weights": "random", **model},
        mask_losses={"points": 64, "outlier": outlier},
        datasets=[{"name": "tiny", "root": "frames", "classes": SINGLE, "scale": [0.9, 1.3]}],
        validation={"sets": [{"name": "val", "root": "val", "classes": SINGLE}], "pixels": 6144, "generated": 0},
    )
    trainer = make_trainer(config)
    assert isinstance(trainer.learner, MaskLearner)
    return trainer, trainer.learner


@pytest.mark.parametrize("head", ["text", "linear"])
def test_mask_network_trains_its_head_alone(
    tmp_path: Path, tiny_data: Path, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, learner = mask_trainer(tiny_data, tmp_path, head, monkeypatch)
    tower = {name: value.clone() for name, value in learner.network.backbone.state_dict().items()}
    sample = batch(trainer.data.maker)
    losses = [trainer.train_step(sample)["loss"] for _ in range(8)]
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, tower[name]) for name, value in learner.network.backbone.state_dict().items())
    learner.eval()
    maps = learner.dense_logits(sample[0].float(), trainer.data.all_concepts())
    assert maps.shape == (2, 5, 16, 24)
    assert maps.max() <= 1e-4 + np.log(learner.network.config.head.num_queries)


def test_ignored_pixels_have_no_part_in_a_mask_network_s_losses(
    tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, learner = mask_trainer(tiny_data, tmp_path, "text", monkeypatch)
    image, rows, weights, names = batch(trainer.data.maker)
    rows[:, :, 12:] = IGNORE
    masks: list[torch.Tensor] = []
    heads = learner.forward

    def keep(*args: Any, **settings: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
        predictions = heads(*args, **settings)
        for mask, _ in predictions:
            mask.retain_grad()
            masks.append(mask)
        return predictions

    monkeypatch.setattr(learner, "forward", keep)
    trainer.loss((image, rows, weights, names), 0)[0].backward()
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


def test_an_outlier_weight_makes_its_term(tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without, _ = mask_trainer(tiny_data, tmp_path / "without", "text", monkeypatch)
    sample = batch(without.data.maker)
    assert "loss/outlier" not in without.loss(sample, 0)[1]
    trainer, _ = mask_trainer(tiny_data, tmp_path, "text", monkeypatch, outlier=1.0)
    assert trainer.loss(sample, 0)[1]["loss/outlier"] > 0


def test_bundle_of_a_trained_mask_network_detects(
    tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "create_encoder", lambda *_: WideToy())
    trainer, learner = mask_trainer(tiny_data, tmp_path, "text", monkeypatch, network="vl4ad-lite")
    trainer.save({"choice": 0.5}, BEST)
    bundle = ModelBundle.load(export.export_best(trainer.config, trainer.data, trainer.text))
    # Its decoders' positions are fixed at export, and so is the size.
    assert (bundle.card.input.resize, bundle.card.num_queries, bundle.card.stride) == ("stretch", 64, 1)
    image = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    detector = Detector.open(bundle.path)
    got = detector.detect(image, detector.prompts(), "mask")
    with torch.no_grad():
        tensor = torch.from_numpy(image).permute(2, 0, 1)[None]
        support = trainer.averaged.learner.dense_logits(tensor, trainer.data.all_concepts()).exp()
    odds = torch.nn.functional.interpolate(torch.logit(support[:, :-1], eps=1e-6), scale_factor=4.0, mode="bilinear")
    difference = np.abs(got - (1 - odds.sigmoid()[0].amax(0)).numpy())
    # Between four pixels a class that is second at each can be missed.
    assert np.quantile(difference, 0.98) < 1e-3
    assert difference.max() < 0.1
    again = load_network(tmp_path / "network")
    assert all(torch.equal(value, learner.network.state_dict()[name]) for name, value in again.state_dict().items())


def test_only_clip_s_towers_take_clip_s_weights(
    tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Vl4adError, match="only CLIP's towers"):
        mask_trainer(tiny_data, tmp_path, "text", monkeypatch, network="vl4ad-lite", backbone="clip.safetensors")


def test_mask_network_refuses_unions(tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tiny_run

    monkeypatch.setattr(tiny_run, "ToyEncoder", WideToy)
    with pytest.raises(Vl4adError, match=r"several classes \(bus, car\)"):
        make_trainer(make_config(tiny_data, tmp_path, model={"network": "vl4ad-tiny"}))


def test_mask_network_refuses_another_text_space(tmp_path: Path, tiny_data: Path) -> None:
    config = make_config(tiny_data, tmp_path, model={"network": "vl4ad-tiny"})
    data = load_data(config)
    with pytest.raises(Vl4adError, match="embeddings of 384 numbers, the text encoder 48"):
        make_learner(config, make_text(data), data.table.classes)


def test_segments_by_hand(tmp_path: Path, tiny_data: Path) -> None:
    sets = [{"name": "tiny", "root": "frames", "classes": SINGLE}]
    validation = {"sets": [{"name": "val", "root": "val", "classes": SINGLE}]}
    table = load_data(make_config(tiny_data, tmp_path, datasets=sets, validation=validation, objects=None)).table
    rows = torch.full((1, 2, 2), 255, dtype=torch.uint8)
    rows[0, 0, 0], rows[0, 1, 1] = int(table.lookup[0][2]), table.void
    masks, classes = segments(rows, table)
    assert classes[0].tolist() == [table.classes.index("car")]
    assert masks[0].tolist() == [[[1.0, 0.0], [0.0, 0.0]]]
