"""Objects in scenes: how large, where, and with which label."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vl4ad_ros.training.config import Objects
from vl4ad_ros.training.cutouts import Cutouts, known_things
from vl4ad_ros.training.frames import Frames
from vl4ad_ros.training.scenes import NO_NAME, ObjectPaster, Scene, horizon_row
from vl4ad_ros.training.stream import LARGEST_WEIGHT, SMALLEST_WEIGHT, object_weights

ROAD, SKY, CAR, VOID = 0, 1, 2, 3
SHAPE = (200, 320)
HORIZON = 80


def road_scene() -> Scene:
    rows = np.full(SHAPE, SKY, np.uint8)
    rows[HORIZON:] = ROAD
    return Scene.of(np.full((*SHAPE, 3), 120, np.uint8), rows)


def square(side: int, colour: int = 250) -> np.ndarray:
    picture = np.full((side, side, 4), colour, np.uint8)
    picture[..., 3] = 255
    return picture


def paster(*pictures: np.ndarray, things: tuple[tuple[np.ndarray, int], ...] = (), **settings: Any) -> ObjectPaster:
    cutouts = Cutouts(("crate",), np.zeros(len(pictures), np.int64), pictures)
    plain = {"masked": ["x"], "nameless": 0, "known": 0, "on_plane": 0, "max_objects": 1, **settings}
    return ObjectPaster(Objects.model_validate(plain), cutouts, np.array([0]), VOID, (ROAD,), (), things)


def heights(scene: Scene) -> list[tuple[int, int]]:
    """Last row and height of each object."""
    found = []
    for number in np.unique(scene.objects[scene.objects > 0]):
        ys = np.flatnonzero((scene.objects == number).any(1))
        found.append((int(ys[-1]), len(ys)))
    return found


@pytest.mark.parametrize(("size", "largest"), [([60, 120], 22), ([130, 300], 66)])
def test_small_cut_outs_keep_their_sharpness(size: list[int], largest: int) -> None:
    source = paster(square(20), size=size)
    seen = [h for seed in range(30) for _, h in heights(source.paste(road_scene(), np.random.default_rng(seed)))]
    assert seen
    assert max(seen) <= largest


def test_sizes_reach_from_the_smallest_to_the_largest() -> None:
    source = paster(square(180), size=[6, 180])
    seen = [h for seed in range(150) for _, h in heights(source.paste(road_scene(), np.random.default_rng(seed)))]
    assert min(seen) < 12
    assert max(seen) > 120
    assert 20 < float(np.median(seen)) < 80, "many small ones"


def test_on_the_ground_plane_far_things_are_small() -> None:
    source = paster(square(150), size=[4, 200], on_plane=1, metres=[0.65, 0.65], camera_height=1.3)
    checked = 0
    for seed in range(60):
        for foot, height in heights(source.paste(road_scene(), np.random.default_rng(seed))):
            if foot < SHAPE[0] - 1:
                # Half as high as the camera: half of the way from the foot to the horizon; turned ones differ.
                assert height == pytest.approx((foot + 1 - HORIZON) / 2, rel=0.45, abs=3)
                checked += 1
    assert checked > 20


def test_the_horizon_is_where_the_road_ends() -> None:
    scene = road_scene()
    assert horizon_row(scene.rows, (ROAD,)) == HORIZON
    assert horizon_row(np.full(SHAPE, ROAD, np.uint8), (ROAD,)) is None
    assert horizon_row(np.full(SHAPE, SKY, np.uint8), (ROAD,)) is None


def test_known_things_keep_their_label_and_have_no_name() -> None:
    mixed = paster(square(40), things=((square(40, 30), CAR),), size=[10, 40], max_objects=4, known=0.5)
    rows: set[int] = set()
    for seed in range(20):
        scene = mixed.paste(road_scene(), np.random.default_rng(seed))
        put_in = scene.objects > 0
        assert set(np.unique(scene.rows[put_in]).tolist()) <= {CAR, VOID}
        assert (scene.names[scene.rows == CAR] == NO_NAME).all()
        assert (scene.names[scene.rows == VOID] == 0).all()
        rows |= set(np.unique(scene.rows[put_in]).tolist())
    assert rows == {CAR, VOID}


def test_known_things_are_whole_components() -> None:
    image, rows = np.zeros((100, 160, 3), np.uint8), np.full((100, 160), ROAD, np.uint8)
    rows[40:70, 50:90], image[40:70, 50:90] = CAR, 200
    rows[0:30, 120:150] = CAR
    rows[80:84, 20:60] = CAR
    (thing,) = known_things(Frames((image,), (rows,)), (CAR,), longest=20)
    assert thing[1] == CAR
    assert thing[0].shape == (15, 20, 4)
    assert (thing[0][..., 3] > 250).all()
    assert (thing[0][..., :3] > 190).all()


def test_objects_weigh_the_same_within_limits() -> None:
    objects = np.zeros((60, 100), np.uint8)
    objects[:10, :20], objects[40:45, 40:44] = 1, 2
    weights = object_weights(objects, 100)
    assert weights[objects == 1].sum() == pytest.approx(100)
    assert weights[objects == 2].sum() == pytest.approx(100)
    assert (weights[objects == 0] == 1).all()
    objects[50, 90], objects[20:40, 50:] = 3, 4
    weights = object_weights(objects, 100)
    assert weights.max() == LARGEST_WEIGHT
    assert weights.min() == pytest.approx(SMALLEST_WEIGHT)
    assert (object_weights(objects, 0) == 1).all()
