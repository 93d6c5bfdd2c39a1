"""From a configuration file to a bundle: what ``vl4ad train`` does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vl4ad_ros.io.checked import validate as check
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.resources import prompt_yaml
from vl4ad_ros.prompts.compile import assemble, concept_texts
from vl4ad_ros.prompts.encoders import TextEncoder, create_encoder
from vl4ad_ros.prompts.schema import load_prompt_set
from vl4ad_ros.runtime.prompt_tensors import pack
from vl4ad_ros.training.config import Export, TrainConfig, load_config
from vl4ad_ros.training.data import RunData, load_data
from vl4ad_ros.training.dense_learner import DenseLearner
from vl4ad_ros.training.export import export_best
from vl4ad_ros.training.learner import LIMITS, Learner, embed_texts, encoder_weights_file, make_learner
from vl4ad_ros.training.loop import Trainer
from vl4ad_ros.training.processes import Group, join_group
from vl4ad_ros.training.report import RunReport
from vl4ad_ros.training.start import fill_unlabelled, start_from


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
    """The device of this process: `auto` takes the GPU of its rank on this machine where there is one."""
    if name == "auto":
        name = f"cuda:{group.local_rank}" if torch.cuda.is_available() else "cpu"
    try:
        return torch.zeros(1, device=torch.device(name)).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise Vl4adError(f"--device {name}: {reason} (expected auto, cpu or cuda:N)") from error


def configured(options: TrainOptions) -> TrainConfig:
    """The file's configuration with the overrides, checked again."""
    plain = load_config(options.config).model_dump(mode="json")
    for name in ("data_root", "output"):
        plain[name] = str(getattr(options, name) or plain[name])
    if options.steps is not None:
        plain["optimizer"]["steps"] = options.steps
    return check(TrainConfig, plain, options.config)


def train(options: TrainOptions) -> Iterator[str]:
    """Run the training; yields lines for people, from the first process alone."""
    group = join_group()
    for line in _train(options, group):
        if group.rank == 0:
            yield line


def _train(options: TrainOptions, group: Group) -> Iterator[str]:
    config = configured(options)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if config.batch < group.size:
        raise Vl4adError(f"batch: {group.size} processes need at least one sample each, got {config.batch}")
    encoder = create_encoder(config.text_encoder, config.text_encoder_weights)
    check_network(config, encoder)
    if options.export:
        check_export(config.export, encoder)
    data = load_data(config, config.export.test if options.export else (), encoder)
    if config.model.network != "small":
        from vl4ad_ros.training.mask_learner import check_single_classes

        check_single_classes(data.table)
    yield from _described(config, data)
    if options.check_only:
        yield "configuration and data are in order"
        return
    sets = [load_prompt_set(prompt_yaml(name)) for name in config.export.prompt_sets]
    default = next((item for item in sets if item.name == config.export.default_prompt_set), sets[0])
    text = embed_texts(data.vocabulary, data.names, encoder, default)
    if not options.export_only:
        learner = make_learner(config, data, text)
        yield from _started(config, data, learner)
        report = RunReport(config)
        trainer = Trainer(config, data, text, learner, report, group, choose_device(options.device, group))
        resumed, steps = trainer.resume(), config.optimizer.steps
        if trainer.step >= steps:
            yield f"nothing left to train: {trainer.step} steps are done, and {steps} are asked for"
        else:
            if resumed:
                yield f"resuming at step {trainer.step} of {steps}"
            if group.rank == 0:
                report.start(trainer.step)
            trainer.run()
            if group.rank == 0:
                report.close()
    if options.export and group.rank == 0:
        yield f"bundle written to {export_best(config, data, text)}"


def _started(config: TrainConfig, data: RunData, learner: Learner) -> Iterator[str]:
    """Give a learner the weights of the bundle that it starts from."""
    if config.model.start is not None and isinstance(learner, DenseLearner):
        bundle = start_from(learner, config.model.start, data.samples)
        filled = fill_unlabelled(config, data, learner.eval(), bundle.onnx_sha256)
        yield f"start weights from {config.model.start}; {filled} pixels without a label got one"


def _described(config: TrainConfig, data: RunData) -> Iterator[str]:
    train, validation = data.samples.sets, data.validation
    for spec, frames in zip(config.datasets, train, strict=True):
        yield f"training set {spec.name}: {len(frames)} frames, weight {spec.weight:g}"
    for spec, frames in zip(config.validation.sets, validation, strict=True):
        yield f"validation set {spec.name}: {len(frames)} frames"
    for spec, frames in zip((*config.datasets, *config.validation.sets), (*train, *validation), strict=True):
        if frames.lone:
            yield f"note: {len(frames.lone)} label maps of {spec.name} have no picture, the first is {frames.lone[0]}"
    if data.names:
        yield f"objects: {len(data.names)} names, {len(data.train_names)} of them for training"


def check_network(config: TrainConfig, encoder: TextEncoder) -> None:
    """Look whether there are the network and its start weights, and whether the bundle's input fits it."""
    model, export = config.model, config.export
    if model.network == "small":
        if model.backbone is not None:
            raise Vl4adError("model.backbone: the network 'small' has no CLIP tower; leave it out")
        if model.encoder_weights == "imagenet":
            encoder_weights_file()
        return
    from vl4ad_ros.training.mask_learner import network_sizes

    network_sizes(model, encoder.dim)
    if export.height % 32 or export.width % 32:
        size = f"{export.height} x {export.width}"
        raise Vl4adError(f"export.height and export.width of a mask network must be multiples of 32, got {size}")


def check_export(export: Export, encoder: TextEncoder) -> None:
    """Look whether the bundle's prompt sets are there, fit the graph, and have the default one among them."""
    names: list[str] = []
    for given in export.prompt_sets:
        prompt_set = load_prompt_set(prompt_yaml(given))
        # Any unit rows: only the sizes matter here, and a large encoder takes minutes for the real ones.
        rows = np.zeros((len(concept_texts(prompt_set)), encoder.dim), np.float32)
        rows[:, 0] = 1
        pack(assemble(prompt_set, rows, encoder.id, ""), LIMITS, 1.0)
        if prompt_set.name in names:
            raise Vl4adError(f"export.prompt_sets: two sets have the name '{prompt_set.name}'")
        names.append(prompt_set.name)
    if export.default_prompt_set not in names:
        raise Vl4adError(f"export.default_prompt_set: expected one of {names}, got '{export.default_prompt_set}'")
