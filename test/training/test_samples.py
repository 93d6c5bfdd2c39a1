"""Training samples: where they come from and how they are changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiny_run import CAR, ROAD, SKY, make_config, scene

from vl4ad_ros.training.augment import crop_window, photometry, take_style
from vl4ad_ros.training.config import Augment
from vl4ad_ros.training.data import RunData, load_data
from vl4ad_ros.training.label_tables import IGNORE
from vl4ad_ros.training.scenes import NO_NAME

NO_AUGMENT = Augment(**dict.fromkeys(Augment.model_fields, 0.0))


def test_a_sample_depends_on_its_number_alone(tmp_path: Path, tiny_data: Path) -> None:
    config = make_config(tiny_data, tmp_path)
    first, again = load_data(config).samples, load_data(config).samples
    wanted = first.scene(5)
    again.scene(3)
    got = again.scene(5)
    assert np.array_equal(wanted.image, got.image)
    assert np.array_equal(wanted.rows, got.rows)
    assert np.array_equal(wanted.names, got.names)
    assert not np.array_equal(wanted.image, again.scene(6).image)


def test_objects_become_void_with_their_name(tmp_path: Path, tiny_data: Path) -> None:
    data = load_data(make_config(tiny_data, tmp_path, augment=NO_AUGMENT.model_dump()))
    assert data.names == ("crate", "old tyre", "red ball"), "excluded names are gone"
    assert len(data.train_names) == 2, "one name is held out"
    seen: set[int] = set()
    for index in range(20):
        sample = data.samples.scene(index)
        named = sample.names != NO_NAME
        assert (sample.rows[named] == data.table.void).all()
        seen |= set(np.unique(sample.names[named]).tolist())
    assert seen == set(data.train_names)


def test_picture_and_labels_move_together() -> None:
    image, label = scene(np.random.default_rng(1))
    colours = np.array([SKY, ROAD, CAR], int)
    for seed in range(6):
        random = np.random.default_rng(seed)
        augment = Augment(flip=0.5, rotation=10)
        out, rows = crop_window(image, label, (64, 96), (0.7, 1.6), augment, random)
        nearest = np.abs(out.astype(int)[:, :, None] - colours).sum(-1).argmin(-1)
        inside = rows != IGNORE
        assert (nearest == rows)[inside].mean() > 0.95
        assert 0.3 < inside.mean() <= 1.0


def test_zooming_out_leaves_the_outside_unsupervised() -> None:
    image, label = scene(np.random.default_rng(1))
    _, rows = crop_window(image, label, (64, 96), (0.5, 0.5), NO_AUGMENT, np.random.default_rng(0))
    assert 0.6 < (rows == IGNORE).mean() < 0.85, "about three quarters lie outside"


def test_style_takes_the_other_frame_s_colours() -> None:
    random = np.random.default_rng(0)
    dark = random.integers(20, 60, (64, 96, 3), dtype=np.uint8)
    light = random.integers(180, 240, (64, 96, 3), dtype=np.uint8)
    assert abs(float(take_style(dark, light, 1.0).mean()) - float(light.mean())) < 15
    assert abs(float(take_style(dark, light, 0.0).mean()) - float(dark.mean())) < 5


def test_photometry_off_changes_nothing_and_on_does() -> None:
    image, _ = scene(np.random.default_rng(1))
    assert np.array_equal(photometry(image, NO_AUGMENT, np.random.default_rng(0)), image)
    for name in set(Augment.model_fields) - {"flip", "rotation", "mix", "style"}:
        one = NO_AUGMENT.model_copy(update={name: 1.0})
        changed, again = (photometry(image, one, np.random.default_rng(3)) for _ in range(2))
        assert changed.shape == image.shape
        assert changed.dtype == np.uint8
        assert np.array_equal(changed, again)
        assert np.abs(changed.astype(int) - image).mean() > 0.02, name


def test_stream_gives_maps_at_their_strides(tiny_run_data: RunData) -> None:
    image, rows, weights, names = tiny_run_data.samples[1]
    whole = tiny_run_data.samples.scene(1)
    shapes = [tuple(part.shape) for part in (image, rows, weights, names)]
    assert shapes == [(3, 64, 96), (16, 24), (16, 24), (8, 12)]
    assert int(rows[3, 5]) == whole.rows[14, 22]
    assert int(names[2, 4]) == whole.names[20, 36]
