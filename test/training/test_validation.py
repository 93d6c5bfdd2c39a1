"""The figures that choose a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_run import make_config, make_text

from vl4ad_ros.evaluation.objects import REFERENCE_WIDTH
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.training.data import RunData, load_data
from vl4ad_ros.training.dense_learner import DenseLearner
from vl4ad_ros.training.loop import Trainer
from vl4ad_ros.training.validate import alarm_level, recall, scene_figures, validate
from vl4ad_ros.training.validation_scenes import SIZES, ValidationScene, generate_scenes


def scene(size: str, truth: np.ndarray) -> ValidationScene:
    image = np.zeros((*truth.shape, 3), np.uint8)
    return ValidationScene(size, image, truth, (truth == 1).astype(np.uint8))


def one_object(size: str) -> ValidationScene:
    truth = np.zeros((32, 64), np.uint8)
    truth[8:16, 24:32] = 1
    return scene(size, truth)


def test_the_alarm_level_is_the_lowest_with_few_enough_regions() -> None:
    quiet, noisy = np.zeros((8, 16), np.float32), np.zeros((8, 16), np.float32)
    noisy[2, 2], noisy[2, 10] = 0.4, 0.7
    assert 0.4 < alarm_level([noisy, quiet], 0.5) < 0.45, "two frames may have one alarm"
    assert 0.7 <= alarm_level([noisy, quiet], 0.4) < 0.75
    assert alarm_level([np.ones((8, 16), np.float32)], 0.1) == 1.0


def test_an_object_is_found_where_its_own_pixels_are_lit() -> None:
    u = np.zeros((4, 8), np.float32)
    u[3, 7] = 0.9
    assert recall(one_object("small"), u, 0.5) == (0, 1)
    u[1, 3] = 0.9
    assert recall(one_object("small"), u, 0.5) == (1, 1)


def test_figures_are_kept_apart_by_size_and_unlabelled_alarms_do_not_count() -> None:
    right, wrong, normal = (np.zeros((4, 8), np.float32) for _ in range(3))
    right[1, 3], wrong[3, 7], normal[0, 0] = 0.9, 0.9, 0.95
    empty = np.zeros((32, 64), np.uint8)
    empty[:8, :8] = 255
    scenes = [one_object("small"), one_object("large"), scene("", empty)]
    figures = scene_figures([right, wrong, normal], scenes)
    assert figures["ap/small"] > 0.9 > 0.2 > figures["ap/large"]
    assert (figures["recall/small"], figures["recall/large"]) == (1, 0)
    assert figures["alarms/level"] < 0.1
    empty[:] = 0
    assert scene_figures([right, wrong, normal], scenes)["recall/small"] == 0, "0.9 is below the level of the alarm"


def test_scenes_have_objects_of_their_size_and_are_the_same_for_a_seed(tiny_run_data: RunData) -> None:
    settings = tiny_run_data.samples.config.validation.model_copy(update={"generated": 12, "normal": 2})
    made, again = (generate_scenes(tiny_run_data, settings, 0) for _ in range(2))
    assert [item.size for item in made] == ["small", "medium", "large"] * 4 + ["", ""]
    assert all(np.array_equal(one.image, two.image) for one, two in zip(made, again, strict=True))
    for item in made:
        bound = SIZES[item.size][1] * item.truth.shape[1] / REFERENCE_WIDTH if item.size else 0
        for number in np.unique(item.objects[item.objects > 0]):
            assert np.ptp(np.flatnonzero((item.objects == number).any(1))) <= max(5, bound + 1)
        assert (item.objects[item.truth == 1] > 0).all()


def test_the_choice_is_the_mean_of_miou_ap_and_recall_by_size(trained: tuple[Trainer, ModelBundle]) -> None:
    figures = trained[0].validate()
    by_size = [f"{figure}/{size}" for figure in ("ap", "recall") for size in SIZES]
    wanted = [figures["miou/val"], *(figures[name] for name in by_size if name in figures)]
    assert figures["choice"] == pytest.approx(float(np.mean(wanted)))


def test_a_set_of_one_class_has_no_miou(tmp_path: Path, tiny_data: Path) -> None:
    one = {"name": "val", "root": "val", "classes": {"0": "sky", "1": "sky"}, "ignore": [2, 255]}
    plain = {"sets": [one], "pixels": 64 * 96, "generated": 0, "normal": 0}
    config = make_config(tiny_data, tmp_path, validation=plain)
    data = load_data(config)
    learner = DenseLearner(config, data, make_text(data)).eval()
    assert validate(learner, data, config.validation, []) == {"choice": 0.0}
