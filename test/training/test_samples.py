from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from tiny_run import CAR, ROAD, SKY, make_config, scene

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.training.augment import crop_window, photometry, take_style
from vl4ad_ros.training.config import Augment
from vl4ad_ros.training.cutouts import Cutouts, _keep, _load, cut_out, make_cutouts
from vl4ad_ros.training.data import load_data
from vl4ad_ros.training.label_tables import IGNORE
from vl4ad_ros.training.scenes import NO_NAME
from vl4ad_ros.training.stream import SampleStream

NO_AUGMENT = Augment(**dict.fromkeys(Augment.model_fields, 0.0))


def test_a_sample_depends_on_its_number_alone(tmp_path: Path, tiny_data: Path) -> None:
    config = make_config(tiny_data, tmp_path)
    first, again = load_data(config).maker, load_data(config).maker
    wanted = first.make(5)
    again.make(3)
    got = again.make(5)
    assert np.array_equal(wanted.image, got.image)
    assert np.array_equal(wanted.rows, got.rows)
    assert np.array_equal(wanted.names, got.names)
    assert not np.array_equal(wanted.image, again.make(6).image)


def test_objects_become_void_with_their_name(tmp_path: Path, tiny_data: Path) -> None:
    data = load_data(make_config(tiny_data, tmp_path, augment=NO_AUGMENT.model_dump()))
    assert data.names == ("crate", "old tyre", "red ball"), "excluded names are gone"
    assert len(data.train_names) == 2, "one name is held out"
    seen: set[int] = set()
    for index in range(20):
        sample = data.maker.make(index)
        named = sample.names != NO_NAME
        assert (sample.rows[named] == data.table.void).all()
        seen |= set(np.unique(sample.names[named]).tolist())
    assert seen == set(data.train_names)


def test_held_out_names_are_what_the_generated_scenes_show(tmp_path: Path, tiny_data: Path) -> None:
    data = load_data(make_config(tiny_data, tmp_path))
    assert data.test_paster is not None
    assert set(data.test_paster.things.allowed.tolist()) == {0, 1, 2} - set(data.train_names)


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
    everything = Augment(**{**NO_AUGMENT.model_dump(), "colour": 1.0, "fog": 1.0, "noise": 1.0, "jpeg": 1.0})
    changed = photometry(image, everything, np.random.default_rng(0))
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    assert np.abs(changed.astype(int) - image).mean() > 3


def test_cut_out_finds_the_thing() -> None:
    picture = np.full((80, 100, 3), 220, np.uint8)
    picture[20:60, 30:70] = (30, 90, 200)
    result = cut_out(picture, 160)
    assert abs(result.shape[0] - 40) <= 4
    assert abs(result.shape[1] - 40) <= 4
    assert (result[..., 3] > 128).mean() > 0.9


def test_a_damaged_cache_of_cut_outs_is_made_again(tmp_path: Path, tiny_data: Path) -> None:
    def made() -> Cutouts:
        return make_cutouts([tiny_data / "objects"], 2, frozenset(), 32, 0, tmp_path, workers=1)[0]

    first = made()
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", whole[: len(whole) // 2] + bytes(len(whole) // 2)):
        kept.write_bytes(damage)
        assert _load(kept) is None
    again = made()
    assert kept.read_bytes() == whole
    loaded = _load(kept)
    assert loaded is not None
    for other in (again, loaded):
        assert other.names == first.names
        assert all(np.array_equal(a, b) for a, b in zip(other.pictures, first.pictures, strict=True))
    assert list(tmp_path.iterdir()) == [kept], "nothing else is left behind"


def test_a_write_that_fails_leaves_no_half_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(stream: BinaryIO, **_: object) -> None:
        stream.write(b"PK half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(OSError, match="no space"):
        _keep(Cutouts(("a",), np.zeros(1, np.int64), (np.zeros((4, 4, 4), np.uint8),)), tmp_path / "cutouts.npz")
    assert not list(tmp_path.iterdir())


def test_a_set_without_a_name_is_refused(tmp_path: Path, tiny_data: Path) -> None:
    every = frozenset({"red ball", "crate", "horse", "old tyre"})
    with pytest.raises(Vl4adError, match="'exclude' leaves no name"):
        make_cutouts([tiny_data / "objects"], 2, every, 32, 0, tmp_path)


def test_stream_gives_maps_at_their_strides(tmp_path: Path, tiny_data: Path) -> None:
    config = make_config(tiny_data, tmp_path)
    stream = SampleStream(load_data(config).maker)
    image, rows, weights, names = stream[1]
    scene_ = load_data(config).maker.make(1)
    shapes = [tuple(part.shape) for part in (image, rows, weights, names)]
    assert shapes == [(3, 64, 96), (16, 24), (16, 24), (8, 12)]
    assert int(rows[3, 5]) == scene_.rows[14, 22]
    assert int(names[2, 4]) == scene_.names[20, 36]
    assert len(stream) == config.batch * config.optimizer.steps
