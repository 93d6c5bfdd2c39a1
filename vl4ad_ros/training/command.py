"""From a configuration file to a bundle: what ``vl4ad train`` does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vl4ad_ros.io.checked import validate as check
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.resources import prompt_yaml
from vl4ad_ros.prompts.encoders import create_encoder
from vl4ad_ros.prompts.schema import PromptSet, load_prompt_set
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.training.config import TrainConfig, load_config
from vl4ad_ros.training.data import RunData, load_data
from vl4ad_ros.training.fill import fill_unlabelled
from vl4ad_ros.training.frames import lone_labels
from vl4ad_ros.training.learner import DenseLearner
from vl4ad_ros.training.loop import Trainer
from vl4ad_ros.training.objective import make_learner
from vl4ad_ros.training.preflight import check_export, check_labels, check_network
from vl4ad_ros.training.processes import Group, join_group
from vl4ad_ros.training.report import RunReport
from vl4ad_ros.training.start import load_start
from vl4ad_ros.training.text import embed_texts

START_PICTURES = 16
"""Samples from which the start network's batch norms take their statistics."""


@dataclass(frozen=True)
class TrainOptions:
    """What the command line may override; None keeps the file's value."""

    config: Path
    data_root: Path | None = None
    output: Path | None = None
    steps: int | None = None
    threads: int | None = None
    check_only: bool = False
    export: bool = True
    export_only: bool = False
    device: str = "auto"


def choose_device(name: str, group: Group) -> torch.device:
    """The device of this process: `auto` takes the GPU of its rank on this machine where there is one.

    Raises:
        Vl4adError: the device is unknown or not there.
    """
    if name == "auto":
        name = f"cuda:{group.local_rank}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise Vl4adError(f"--device {name}: {reason} (expected auto, cpu or cuda:N)") from error
    return device


def configured(options: TrainOptions) -> TrainConfig:
    """The file's configuration with the overrides, checked again."""
    plain = load_config(options.config).model_dump(mode="json")
    for name in ("data_root", "output"):
        value = getattr(options, name)
        if value is not None:
            plain[name] = str(value)
    if options.steps is not None:
        plain["optimizer"]["steps"] = options.steps
    return check(TrainConfig, plain, options.config)


def train(options: TrainOptions) -> Iterator[str]:
    """Run the training; yields lines for people.

    Raises:
        Vl4adError: configuration, data or an existing checkpoint are wrong.
    """
    config = configured(options)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    group = join_group()
    if config.batch < group.size:
        raise Vl4adError(f"batch: {group.size} processes need at least one sample each, got {config.batch}")
    encoder = create_encoder(config.text_encoder, config.text_encoder_weights)
    check_network(config, encoder)
    if options.export:
        check_export(config.export, encoder)
    data = load_data(config, config.export.test if options.export else (), encoder)
    check_labels(config, data)
    if group.rank == 0:
        yield from _described(config, data)
    if options.check_only:
        yield "configuration and data are in order"
        return
    text = embed_texts(data.vocabulary, data.names, encoder, _default_prompts(config))
    if not options.export_only:
        learner = make_learner(config, text, data.table.classes)
        if config.model.start is not None and isinstance(learner, DenseLearner):
            bundle = ModelBundle.load(config.model.start)
            load_start(learner, bundle, _pictures(data))
            filled = fill_unlabelled(config, data, learner.eval(), bundle.onnx_sha256)
            if group.rank == 0:
                yield f"start weights from {config.model.start}; {filled} pixels without a label got one"
        trainer = Trainer(config, data, text, learner, group, device=choose_device(options.device, group))
        resumed, steps = trainer.resume(), config.optimizer.steps
        if trainer.step >= steps:
            if group.rank == 0:
                yield f"nothing left to train: {trainer.step} steps are done, and {steps} are asked for"
        elif group.rank == 0:
            if resumed:
                yield f"resuming at step {trainer.step} of {steps}"
            report = RunReport(config, trainer.window)
            trainer.listener = report.listen
            report.start(trainer.step)
            trainer.run()
            report.close()
        else:
            trainer.run()
    if options.export and group.rank == 0:
        from vl4ad_ros.training.export import export_best

        yield f"bundle written to {export_best(config, data, text)}"


def _default_prompts(config: TrainConfig) -> PromptSet:
    """The prompt set that the bundle will use by default, else the first one."""
    sets = [load_prompt_set(prompt_yaml(name)) for name in config.export.prompt_sets]
    return next((item for item in sets if item.name == config.export.default_prompt_set), sets[0])


def _pictures(data: RunData) -> Tensor:
    """Some samples' pictures: RGB [B,3,H,W], 0 to 255."""
    images = [data.maker.make(index).image for index in range(START_PICTURES)]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()


def _described(config: TrainConfig, data: RunData) -> Iterator[str]:
    for spec, frames in zip(config.datasets, data.maker.sets, strict=True):
        yield f"training set {spec.name}: {len(frames)} frames, weight {spec.weight:g}"
    for spec, frames in zip(config.validation.sets, data.validation, strict=True):
        yield f"validation set {spec.name}: {len(frames)} frames"
    for spec in (*config.datasets, *config.validation.sets):
        lone = lone_labels(spec, config.data_root)
        if lone:
            yield f"note: {len(lone)} label maps of {spec.name} have no picture, the first is {lone[0]}"
    if data.names:
        yield f"objects: {len(data.names)} names, {len(data.train_names)} of them for training"
