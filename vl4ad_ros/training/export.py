"""From a run's best checkpoint to a model bundle."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vl4ad_ros.evaluation.prompt_thresholds import match_alarms
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.resources import prompt_yaml
from vl4ad_ros.network.bundle_writer import write_bundle
from vl4ad_ros.network.checkpoint import save_network
from vl4ad_ros.network.model import VL4ADNetwork
from vl4ad_ros.prompts.compile import compile_file
from vl4ad_ros.prompts.encoders import create_encoder
from vl4ad_ros.runtime.bundle import PROMPTS, BundleCard, InputSpec, ModelBundle, threshold_key, write_card
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.prompt_set import CompiledPromptSet
from vl4ad_ros.training.checkpoint import BEST, Checkpoint, load_checkpoint
from vl4ad_ros.training.config import TrainConfig
from vl4ad_ros.training.data import RunData
from vl4ad_ros.training.dense_learner import DenseLearner
from vl4ad_ros.training.frames import load_frames, refuse
from vl4ad_ros.training.label_tables import make_label_table
from vl4ad_ros.training.learner import LIMITS, Learner, TextTable, make_learner
from vl4ad_ros.training.start import mix_with_start
from vl4ad_ros.training.validate import compare_scores, mean_iou, validate
from vl4ad_ros.training.validation_scenes import generate_scenes


def export_best(config: TrainConfig, data: RunData, text: TextTable) -> Path:
    """Write the bundle of a run's best checkpoint into `output/bundle`, the folder that is returned.

    The default score and the mask's threshold are chosen on scenes generated from the validation frames; the thresholds
    of the other prompt sets so that they alarm as often on the frames without objects.
    """
    path = config.output / BEST
    if not path.is_file():
        raise Vl4adError(f"there is no {path}: train first")
    state = load_checkpoint(path)
    learner = make_learner(config, data, text, pretrained=False)
    learner.load_state_dict(state.averaged)
    learner.eval()
    model = config.model
    scenes = generate_scenes(data, config.validation, config.seed)
    if model.start is not None and model.start_share and isinstance(learner, DenseLearner):
        mix_with_start(learner, model.start, data.samples, model.start_share)
        state = replace(state, figures=validate(learner, data, config.validation, scenes))
    sets = _prompt_sets(config, learner)
    if isinstance(learner.network, VL4ADNetwork):
        save_network(learner.network, config.output / "network")
    bundle = write_bundle(
        learner.graph(), config.output / "bundle", _card(config, learner, state, sets[0].encoder_id), sets
    )
    scores, card = dict(bundle.card.scores), bundle.card
    if any(scene.size for scene in scenes):
        compared = compare_scores(bundle, scenes)
        # Of equal ones the later: on a dense network `rba` is `known_mass` by another name.
        default_score = max(reversed(compared), key=lambda name: compared[name].ap)
        update = {
            "default_score": default_score,
            "default_threshold": compared[default_score].threshold,
            "thresholds": {threshold_key("vl4ad", name): figures.threshold for name, figures in compared.items()},
        }
        card = card.model_copy(update=update)
        how = "largest mean AP of small, medium and large objects on the validation scenes"
        scores["default_score"] = {"how": how, **{name: round(figures.ap, 4) for name, figures in compared.items()}}
        how = "largest pixel F1 on the validation scenes, at most 0.1 alarms a frame on roads without objects"
        f1 = {threshold_key("vl4ad", name): round(figures.f1, 4) for name, figures in compared.items()}
        scores["thresholds"] = {"how": how, "f1": f1}
    if config.export.test:
        how = "mIoU over the set's own labels, nothing chosen by it"
        scores["test"] = {"how": how, **test_scores(config, data, learner)}
    bundle = ModelBundle(bundle.path, write_card(bundle.path, card.model_copy(update={"scores": scores})))
    others = [one for one in sets if one.name != card.default_prompt_set]
    normal = [scene.image for scene in scenes if not scene.size]
    if others and normal:
        detector = Detector.open(bundle.path)
        for prompt_set in match_alarms(detector, others, normal):
            prompt_set.save(bundle.find_file(PROMPTS, prompt_set.name))
        detector.close()
        write_card(bundle.path, bundle.card)
    return bundle.path


def test_scores(config: TrainConfig, data: RunData, learner: Learner) -> dict[str, float]:
    """The mIoU on each test set."""
    results: dict[str, float] = {}
    table = make_label_table(data.table.classes, config.export.test)
    for index, spec in enumerate(config.export.test):
        frames, errors = load_frames(spec, config.data_root, table.lookup[index])
        refuse(errors)
        miou = mean_iou(learner, frames, table, index, config.validation.pixels)
        results[f"miou/{spec.name}"] = round(miou, 4)
    return results


def _prompt_sets(config: TrainConfig, learner: Learner) -> list[CompiledPromptSet]:
    """The configured prompt sets; for a vision-only twin, its classes under the default set's name."""
    if learner.linear:
        return [replace(learner.prompts(config.export.name), name=config.export.default_prompt_set)]
    encoder = create_encoder(config.text_encoder, config.text_encoder_weights)
    return [compile_file(prompt_yaml(name), encoder) for name in config.export.prompt_sets]


def _card(config: TrainConfig, learner: Learner, state: Checkpoint, encoder: str) -> BundleCard:
    export = config.export
    scores: dict[str, Any] = {
        "validation": {
            "how": f"averaged weights after {state.step} steps; generated: unseen objects in validation frames",
            **{key: round(value, 4) for key, value in state.figures.items()},
        }
    }
    fields = learner.card_fields()
    size = {"height": export.height, "width": export.width, "multiple_of": 32}
    return BundleCard(
        **fields | {"input": InputSpec.model_validate(size | fields["input"])},
        name=export.name,
        description=export.description,
        text_encoder=encoder,
        stride=learner.network.stride,
        temperature=learner.temperature,
        # Only pasted objects, and a mask network's queries without a match, are ever labelled void.
        void=config.objects is not None or config.model.network != "small",
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
