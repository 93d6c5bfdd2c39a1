"""A made-up data set, objects and configuration: a training run that takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from toy_text import ToyEncoder

from vl4ad_ros.training.config import TrainConfig
from vl4ad_ros.training.data import RunData, load_data
from vl4ad_ros.training.learner import TextTable, embed_texts, make_learner
from vl4ad_ros.training.loop import Trainer
from vl4ad_ros.training.processes import Group
from vl4ad_ros.training.report import RunReport

SKY, ROAD, CAR = (150, 190, 240), (90, 90, 95), (180, 30, 40)
VOCABULARY = {"name": "tiny", "classes": {"road": ["road", "street"], "sky": ["sky"], "car": ["car"], "bus": ["bus"]}}
TABLE = {"0": "sky", "1": "road", "2": ["car", "bus"]}
SHAPE = (64, 96)
SMALL = {"embed_dim": 16, "width": 16, "encoder_weights": "random", "freeze_stages": 0}


def scene(random: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Sky above, road below, a car; RGB and labels."""
    height, width = SHAPE
    image, label = np.empty((height, width, 3), np.uint8), np.zeros(SHAPE, np.uint8)
    horizon = int(random.integers(20, 36))
    image[:horizon], image[horizon:], label[horizon:] = SKY, ROAD, 1
    x = int(random.integers(0, width - 30))
    image[horizon - 6 : horizon + 12, x : x + 24], label[horizon - 6 : horizon + 12, x : x + 24] = CAR, 2
    noise = random.integers(-12, 13, image.shape)
    return (image.astype(int) + noise).clip(0, 255).astype(np.uint8), label


def write_pair(root: Path, name: str, image: NDArray[np.uint8], label: NDArray[np.uint8]) -> None:
    """A picture (RGB) in `images` and its label map in `labels`."""
    for folder, content in (("images", image[..., ::-1]), ("labels", label)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / folder / f"{name}.png"), content)


def write_frames(root: Path, count: int, seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    for index in range(count):
        write_pair(root, str(index), *scene(random))


def write_objects(root: Path) -> None:
    """Discs and squares on white: two pictures of each name."""
    for index, name in enumerate(("red_ball", "crate", "horse", "old_tyre")):
        (root / name).mkdir(parents=True)
        colour = ((40, 200, 40), (30, 220, 220), (200, 60, 160), (20, 20, 20))[index]
        for number in range(2):
            picture = np.full((60, 80, 3), 235, np.uint8)
            if index % 2:
                cv2.rectangle(picture, (25, 15), (55, 45), colour, -1)
            else:
                cv2.circle(picture, (40, 30), 18 + number, colour, -1)
            cv2.imwrite(str(root / name / f"{number}.png"), picture)


def write_data(root: Path) -> Path:
    write_frames(root / "frames", 4)
    write_frames(root / "val", 2, seed=9)
    write_objects(root / "objects")
    (root / "vocabulary.yaml").write_text(yaml.safe_dump(VOCABULARY))
    return root


def plain_config(root: Path, output: Path, **changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "data_root": str(root),
        "output": str(output),
        "vocabulary": str(root / "vocabulary.yaml"),
        "crop": list(SHAPE),
        "batch": 2,
        "workers": 0,
        "checkpoint_minutes": 100,
        "datasets": [{"name": "tiny", "root": "frames", "classes": TABLE, "scale": [0.9, 1.3]}],
        "objects": {"roots": ["objects"], "held_out": 0.25, "exclude": ["horse"], "size": [12, 40]},
        "model": SMALL,
        "optimizer": {"steps": 6, "warmup": 2, "cooldown": 2},
        "validation": {
            "sets": [{"name": "val", "root": "val", "classes": TABLE}],
            "pixels": SHAPE[0] * SHAPE[1],
            "generated": 3,
            "normal": 1,
            "minutes": 100,
        },
        "export": {
            "name": "tiny",
            "height": SHAPE[0],
            "width": SHAPE[1],
            "prompt_sets": [str(root / "vocabulary.yaml")],
            "default_prompt_set": "tiny",
            "licence": "none",
            "training_data": ["made up"],
        },
    }
    return {**plain, **changes}


def make_config(root: Path, output: Path, **changes: Any) -> TrainConfig:
    return TrainConfig.model_validate(plain_config(root, output, **changes))


def make_text(data: RunData) -> TextTable:
    return embed_texts(data.vocabulary, data.names, ToyEncoder())


def make_trainer(config: TrainConfig, group: Group | None = None, report: RunReport | None = None) -> Trainer:
    data = load_data(config)
    text = make_text(data)
    learner = make_learner(config, data, text)
    return Trainer(config, data, text, learner, report or RunReport(config), group or Group())
