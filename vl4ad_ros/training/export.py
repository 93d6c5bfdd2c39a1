"""From a run's best checkpoint to a model bundle."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.resources import prompt_yaml
from vl4ad_ros.network.bundle_writer import write_bundle
from vl4ad_ros.network.checkpoint import save_network
from vl4ad_ros.network.lite_encoder import PIXEL_MEAN, PIXEL_STD
from vl4ad_ros.network.small import SmallDetector
from vl4ad_ros.prompts.compile import compile_file
from vl4ad_ros.prompts.encoders import create_encoder
from vl4ad_ros.runtime.bundle import BundleCard, InputSpec, ModelBundle, write_card
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.training.checkpoint import BEST, Checkpoint, load_checkpoint
from vl4ad_ros.training.config import TrainConfig
from vl4ad_ros.training.data import RunData, label_table
from vl4ad_ros.training.frames import load_frames, refuse
from vl4ad_ros.training.mask_learner import MaskLearner
from vl4ad_ros.training.objective import Learner, make_learner
from vl4ad_ros.training.text import LIMITS, TextTable
from vl4ad_ros.training.threshold import choose_threshold
from vl4ad_ros.training.twin import prompts_of
from vl4ad_ros.training.validate import mean_iou
from vl4ad_ros.training.validation_scenes import ValidationScene, generate_scenes


def export_best(config: TrainConfig, data: RunData, text: TextTable, name: str = BEST) -> Path:
    """Write the bundle of a run's checkpoint into `output/bundle`.

    Args:
        config: the run.
        data: its data; the mask's threshold is chosen on scenes generated from the validation frames.
        text: its texts.
        name: the checkpoint's file.

    Returns:
        The bundle's folder.

    Raises:
        Vl4adError: there is no checkpoint, or the exported graph differs from the network.
    """
    path = config.output / name
    if not path.is_file():
        raise Vl4adError(f"there is no {path}: train first")
    state = load_checkpoint(path)
    learner = make_learner(config, text, data.table.classes, pretrained=False)
    learner.load_state_dict(state.averaged)
    learner.eval()
    sets = _prompt_sets(config, text, learner)
    card = _card(config, learner, state, sets[0].encoder_id)
    if isinstance(learner, MaskLearner):
        save_network(learner.network, config.output / "network")
    network = learner.network if isinstance(learner, MaskLearner) else SmallDetector(learner.network, learner.void)
    bundle = write_bundle(network.eval(), config.output / "bundle", card, sets)
    scenes = generate_scenes(data, config.validation, config.seed)
    if any(scene.size for scene in scenes):
        bundle = _with_threshold(bundle, scenes)
    tested = test_scores(config, data, learner)
    if tested:
        scores = {
            **bundle.card.scores,
            "test": {"how": "mIoU over the set's own labels, nothing chosen by it", **tested},
        }
        write_card(bundle.path, bundle.card.model_copy(update={"scores": scores}))
    return bundle.path


def test_scores(config: TrainConfig, data: RunData, learner: Learner) -> dict[str, float]:
    """The mIoU on each test set.

    Raises:
        Vl4adError: a frame of a test set is faulty.
    """
    results: dict[str, float] = {}
    for spec in config.export.test:
        table = label_table(data.table.classes, [spec])
        frames, errors = load_frames(spec, config.data_root, table.lookup[0], table.known[0])
        refuse(errors)
        miou = mean_iou(learner, frames, table, 0, config.validation.pixels, data.all_concepts())
        results[f"miou/{spec.name}"] = round(miou, 4)
    return results


def _prompt_sets(config: TrainConfig, text: TextTable, learner: Learner) -> list[CompiledPromptSet]:
    """The configured prompt sets; for a vision-only twin, its classes under the default set's name."""
    if config.model.head == "text":
        encoder = create_encoder(config.text_encoder, config.text_encoder_weights)
        return [compile_file(prompt_yaml(name), encoder) for name in config.export.prompt_sets]
    return [replace(prompts_of(learner, text, config.export.name), name=config.export.default_prompt_set)]


def _card(config: TrainConfig, learner: Learner, state: Checkpoint, encoder: str) -> BundleCard:
    export = config.export
    scores: dict[str, Any] = {
        "validation": {
            "how": f"averaged weights after {state.step} steps; generated: unseen objects in validation frames",
            **{key: round(value, 4) for key, value in state.figures.items()},
        }
    }
    resize: Literal["stretch", "keep_aspect"] = "keep_aspect"
    if isinstance(learner, MaskLearner):
        resize = "stretch"  # the positions of its decoders are computed at export
        sizes = learner.network.config
        dim, queries, mean, std = sizes.head.text_dim, sizes.head.num_queries, sizes.mean, sizes.std
    else:
        dim, queries = learner.network.text_dim, None
        mean, std = (PIXEL_MEAN, PIXEL_MEAN, PIXEL_MEAN), (PIXEL_STD, PIXEL_STD, PIXEL_STD)
    return BundleCard(
        name=export.name,
        description=export.description,
        input=InputSpec(
            height=export.height,
            width=export.width,
            multiple_of=32,
            resize=resize,
            mean=mean,
            std=std,
        ),
        text_encoder=encoder,
        embedding_dim=dim,
        num_queries=queries,
        stride=learner.network.stride,
        temperature=learner.temperature,
        # Only pasted objects, and a mask network's queries without a match, are ever labelled void.
        void=config.objects is not None or isinstance(learner, MaskLearner),
        methods=["vl4ad"] if isinstance(learner, MaskLearner) and learner.linear else ["vl4ad", "random_word"],
        prompt_limits=LIMITS,
        default_prompt_set=export.default_prompt_set,
        licence=export.licence,
        training_data=export.training_data,
        training={
            "command": "vl4ad train CONFIG --data-root DATA",
            "config": config.model_dump(mode="json", exclude={"data_root", "output", "objects", "export"}),
            "seed": config.seed,
            "steps": state.step,
            "samples": state.step * config.batch,
            "hours": round(state.seconds / 3600, 2),
            "hardware": f"{platform.machine()} CPU, {torch.get_num_threads()} threads, torch {torch.__version__}",
            "parameters": sum(p.numel() for p in learner.network.parameters()),
        },
        scores=scores,
    )


def _with_threshold(bundle: ModelBundle, scenes: list[ValidationScene]) -> ModelBundle:
    """Put the mask's threshold onto the card."""
    threshold, f1 = choose_threshold(bundle, scenes)
    scores = {
        **bundle.card.scores,
        "threshold": {
            "how": "largest pixel F1 on the validation scenes, at most 0.1 alarms a frame on roads without objects",
            "f1": round(f1, 4),
        },
    }
    card = bundle.card.model_copy(update={"default_threshold": threshold, "scores": scores})
    return ModelBundle(bundle.path, write_card(bundle.path, card))
