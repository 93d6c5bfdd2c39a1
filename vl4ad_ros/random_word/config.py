"""Settings of a text-only training (`config/random_word/train/*.yaml`)."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from vl4ad_ros.io.checked import Checked, read_yaml, validate
from vl4ad_ros.io.resources import yaml_file
from vl4ad_ros.prompts.encoders import MINILM_ID
from vl4ad_ros.random_word.prompts import WordSettings
from vl4ad_ros.runtime.random_word_network import GRAPH_HIDDEN


class TrainSettings(Checked):
    """One training. Every value is our choice; the paper's are unknown to us.

    Attributes:
        family: Prompt family: name or YAML file.
        text_encoder: Id of the text encoder.
        seed: Of the split, the prompts and the training.
        samples: Training prompts of each label.
        validation_samples: Prompts of each label in each validation set.
        held_out: Share of the words, states and templates that only validation sees.
        words: The random words.
        hidden: Units of the hidden layer.
        dropout: Of the hidden layer.
        noise: Length of the Gaussian vector added to a unit embedding before it is normalised again; it makes the cloud
            of texts wider, towards that of the images.
        label_smoothing: Keeps probabilities off 0 and 1, so that the ranking of maps stays.
        rate: Learning rate of AdamW.
        weight_decay: Of AdamW.
        batch: Prompts per step.
        epochs: Most passes over the training prompts.
        patience: Passes without a lower validation loss after which training stops.
        refit: Whether the final network also learns from the validation prompts, after they have ended the training.
    """

    family: str = "road"
    text_encoder: str = MINILM_ID
    seed: int = Field(default=0, ge=0)
    samples: int = Field(default=2000, ge=1)
    validation_samples: int = Field(default=250, ge=1)
    held_out: float = Field(default=0.25, gt=0, lt=1)
    words: WordSettings = WordSettings()
    hidden: int = Field(default=64, ge=1, le=GRAPH_HIDDEN)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    noise: float = Field(default=0.3, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    batch: int = Field(default=256, ge=1)
    epochs: int = Field(default=60, ge=1)
    patience: int = Field(default=6, ge=1)
    refit: bool = True


def load_settings(name_or_path: str | Path) -> TrainSettings:
    """Read settings from a YAML file, or the shipped ones of that name.

    Raises:
        Vl4adError: If there are none, or the file breaks the schema.
    """
    path = yaml_file("config/random_word/train", "random-word settings file", name_or_path)
    return validate(TrainSettings, read_yaml(path) or {}, path)
