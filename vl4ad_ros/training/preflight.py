"""What a run needs at its end, looked at before its first step: hours of training must not end in a typing error."""

from __future__ import annotations

import numpy as np

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.resources import prompt_yaml
from vl4ad_ros.prompts.compile import assemble, concept_texts
from vl4ad_ros.prompts.encoders import TextEncoder
from vl4ad_ros.prompts.schema import load_prompt_set
from vl4ad_ros.runtime.prompt_tensors import pack
from vl4ad_ros.training.config import Export, TrainConfig
from vl4ad_ros.training.data import RunData
from vl4ad_ros.training.learner import encoder_weights_file
from vl4ad_ros.training.mask_learner import check_single_classes, network_sizes
from vl4ad_ros.training.text import LIMITS


def check_network(config: TrainConfig, encoder: TextEncoder) -> None:
    """Look whether there are the network and its start weights, and whether the bundle's input fits it.

    Raises:
        Vl4adError: names what is missing or does not fit.
    """
    model = config.model
    if model.network == "small":
        if model.backbone is not None:
            raise Vl4adError("model.backbone: the network 'small' has no CLIP tower; leave it out")
        if model.encoder_weights == "imagenet":
            encoder_weights_file()
        return
    network_sizes(model, encoder.dim)
    if config.export.height % 32 or config.export.width % 32:
        size = f"{config.export.height} x {config.export.width}"
        raise Vl4adError(f"export.height and export.width of a mask network must be multiples of 32, got {size}")


def check_export(export: Export, encoder: TextEncoder) -> None:
    """Look whether the bundle's prompt sets are there, fit the graph, and have the default one among them.

    Raises:
        Vl4adError: names the first that is wrong.
    """
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


def check_labels(config: TrainConfig, data: RunData) -> None:
    """Look whether the network can learn from the labels.

    Raises:
        Vl4adError: a label stands for several classes, and the network is a mask network.
    """
    if config.model.network != "small":
        check_single_classes(data.table)
