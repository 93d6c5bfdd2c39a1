from __future__ import annotations

from copy import copy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from vl4ad_ros.drive.catalogue import anomaly, catalogue
from vl4ad_ros.drive.paint import Texture
from vl4ad_ros.drive.quads import Frame, Quad
from vl4ad_ros.drive.record import INFO_TOPIC, START_NS, record
from vl4ad_ros.drive.render import ANOMALY, NORMAL, SPEED, VOID, Drive
from vl4ad_ros.drive.road import FREE_STRETCH, LANES, Camera, Road
from vl4ad_ros.drive.sky import Forecast, weathers
from vl4ad_ros.drive.world import World
from vl4ad_ros.io.bag_reader import BagReader
from vl4ad_ros.io.bag_writer import IMAGE_TOPIC, LABEL_TOPIC
from vl4ad_ros.io.errors import Vl4adError

CLEAR = {"light": np.ones(3, np.float32), "horizon": np.zeros(3, np.float32), "fog": np.float32(0)}


def plain(colour: tuple[float, float, float], size: int = 64) -> Texture:
    return Texture(np.full((size, size, 3), colour, np.float32), np.ones((size, size), np.float32))


def wall(distance: float, width: float, height: float, texture: Texture, left: float = 0.0) -> Quad:
    corner = np.array([left - width / 2, 0.0, distance])
    return Quad(corner, np.array([width, 0.0, 0.0]), np.array([0.0, height, 0.0]), texture)


@pytest.fixture(scope="module")
def drive() -> Drive:
    return Drive(seed=5, frames=40, width=320, height=180)


def test_a_wall_covers_the_pixels_that_the_pinhole_model_says() -> None:
    camera = Camera(200, 100, (0.0, 1.5, 0.0))
    frame = Frame(camera)
    frame.draw(wall(10.0, 4.0, 3.0, plain((1, 0, 0))), CLEAR, anomaly=True)
    # Focal length 180: 4 m at 10 m are 72 columns around 99.5; 3 m are 54 rows around 49.5.
    rows, columns = np.nonzero(frame.truth[..., 0] > 0.5)
    assert (columns.min(), columns.max() + 1) == (pytest.approx(64, abs=1), pytest.approx(136, abs=1))
    assert (rows.min(), rows.max() + 1) == (pytest.approx(23, abs=1), pytest.approx(77, abs=1))
    assert frame.truth[..., 0].sum() == pytest.approx(72 * 54, rel=0.02)
    assert np.allclose(frame.rgb[50, 100], (1, 0, 0), atol=1e-2)


def test_what_stands_in_front_hides_the_anomaly() -> None:
    frame = Frame(Camera(200, 100, (0.0, 1.5, 0.0)))
    frame.draw(wall(20.0, 2.0, 3.0, plain((1, 0, 0))), CLEAR, anomaly=True)
    seen = frame.truth[..., 0].sum()
    frame.draw(wall(10.0, 4.0, 3.0, plain((0, 1, 0)), left=-2.0), CLEAR)  # Covers its left half.
    assert frame.truth[..., 0].sum() == pytest.approx(seen / 2, rel=0.08)


def test_what_is_behind_the_camera_is_not_drawn() -> None:
    frame = Frame(Camera(200, 100, (0.0, 1.5, 0.0)))
    frame.draw(wall(-5.0, 4.0, 3.0, plain((1, 1, 1))), CLEAR, anomaly=True)
    assert frame.truth[..., 0].max() == 0
    along = Quad(np.array([2.0, 0.0, -5.0]), np.array([0.0, 0.0, 30.0]), np.array([0.0, 3.0, 0.0]), plain((1, 1, 1)))
    frame.draw(along, CLEAR)  # Begins behind the camera, on its right: the left half stays free.
    assert frame.rgb[:, :99].max() == 0
    assert frame.rgb[50, 199].max() > 0.9


def test_haze_takes_over_with_distance() -> None:
    haze = CLEAR | {"horizon": np.full(3, 0.5, np.float32), "fog": np.float32(0.05)}
    colours = []
    for distance in (5.0, 20.0, 80.0):
        frame = Frame(Camera(200, 100, (0.0, 1.5, 0.0)))
        frame.draw(wall(distance, 4.0, 3.0, plain((1, 0, 0))), haze)
        colours.append(frame.rgb[50, 100])
    expected = [0.5 + 0.5 * np.exp(-0.05 * d) for d in (5.0, 20.0, 80.0)]
    assert [c[0] for c in colours] == pytest.approx(expected, abs=0.02)


def test_the_same_seed_draws_the_same_pixels_in_any_order(drive: Drive) -> None:
    again = Drive(seed=5, frames=40, width=320, height=180)
    later, first = again.frame(30), again.frame(3)
    assert np.array_equal(later.image, drive.frame(30).image)
    assert np.array_equal(first.image, drive.frame(3).image)
    assert np.array_equal(later.label, drive.frame(30).label)


def test_frames_have_labels_on_the_things_that_are_there(drive: Drive) -> None:
    found = 0
    for index in (0, 13, 26, 39):
        frame, camera = drive.frame(index), drive.camera(index)
        assert frame.image.shape == (180, 320, 3)
        assert frame.image.dtype == np.uint8
        assert set(np.unique(frame.label)) <= {NORMAL, ANOMALY, VOID}
        labelled = np.zeros(frame.label.shape, bool)
        for thing in drive.world.things:
            if thing.anomaly:
                centre = float(drive.world.road.centre(np.array([thing.z], np.float32))[0])
                foot = np.array([centre + thing.x, 0.0, thing.z])
                column, row, depth = camera.projection @ (foot - np.asarray(camera.position))
                if depth > 0.5:
                    column, row = column / depth, row / depth
                    reach = camera.focal * 2.6 / depth
                    top, left = max(int(row - reach), 0), max(int(column - reach), 0)
                    labelled[top : max(int(row + reach), 0), left : max(int(column + reach), 0)] = True
        assert not (frame.label == ANOMALY)[~labelled].any()
        found += int((frame.label == ANOMALY).sum())
    assert found > 100


def test_an_anomaly_changes_the_picture_only_around_itself(drive: Drive) -> None:
    index = 25
    with_anomalies = drive.frame(index)
    bare = copy(drive)
    bare.world = World(drive.world.road, [thing for thing in drive.world.things if not thing.anomaly])
    without = bare.frame(index)
    assert (without.label == NORMAL).all()
    changed = np.abs(with_anomalies.image.astype(int) - without.image).max(axis=2) > 12
    marked = with_anomalies.label == ANOMALY
    assert marked.sum() > 20
    assert (changed & marked).sum() > 0.6 * marked.sum()
    # Shadows and blurred rims aside, nothing else changes.
    assert (changed & (with_anomalies.label == NORMAL)).sum() < 1.5 * marked.sum()


def test_the_camera_moves_along_the_road_and_passes_anomalies_in_the_other_lane(drive: Drive) -> None:
    assert drive.camera(10).position[2] == pytest.approx(SPEED)
    road = drive.world.road
    for index, place in enumerate(road.places[:4]):
        assert {road.driven(float(place)), road.anomaly_lane(index)} == set(LANES)


def test_a_long_drive_has_stretches_without_anomalies() -> None:
    drive = Drive(seed=1, frames=300, width=192, height=108, rate=10.0)
    places = drive.world.road.places
    before = float(places[np.argmax(np.diff(places))])
    assert np.diff(places).max() > FREE_STRETCH
    free = drive.frame(round((before + 20) / SPEED * drive.rate))
    assert not (free.label == ANOMALY).any()


@pytest.mark.parametrize("name", catalogue()["anomalies"])
def test_every_anomaly_has_texture_and_stands_on_the_ground(name: str) -> None:
    quads = anomaly(name, np.random.default_rng(1))
    assert min(float(quad.origin[1]) for quad in quads) == 0
    assert 0.2 < max(float(quad.origin[1] + quad.up[1]) for quad in quads) < 2.5
    for quad in quads:
        visible = quad.texture.rgb[quad.texture.alpha > 0.9]
        assert len(visible) > 0.15 * quad.texture.alpha.size
        assert visible.std() > 0.005


def test_the_weather_goes_through_different_ones_smoothly() -> None:
    forecast = Forecast(np.random.default_rng(0))
    assert len(set(forecast.names)) == 4
    moments = [forecast.at(share) for share in np.linspace(0, 1, 301)]
    for moment, name in ((moments[0], forecast.names[0]), (moments[-1], forecast.names[-1])):
        assert all(np.array_equal(moment[key], value) for key, value in weathers()[name].items())
    steps = [abs(a["light"][0] - b["light"][0]) for a, b in pairwise(moments)]
    assert max(steps) < 0.03


def test_the_road_changes_between_town_and_country() -> None:
    road = Road(np.random.default_rng(2), 500)
    kinds = road.urban(np.linspace(0, 500, 501, dtype=np.float32))
    assert (kinds == 0).mean() > 0.1
    assert (kinds == 1).mean() > 0.1
    assert (kinds >= 0).all()
    assert (kinds <= 1).all()


@pytest.mark.parametrize(
    "numbers", [{"frames": 0}, {"width": 32}, {"rate": 0.0}, {"seed": -1}, {"height": 10_000}, {"rate": float("nan")}]
)
def test_numbers_out_of_range_are_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(Vl4adError, match="A drive needs a seed >= 0"):
        Drive(**{"seed": 0, "frames": 5, **numbers})  # type: ignore[arg-type]


def test_a_recorded_drive_has_images_labels_and_calibration(tmp_path: Path) -> None:
    drive = Drive(seed=7, frames=3, width=128, height=96, rate=20.0)
    done: list[int] = []
    record(drive, tmp_path / "bag", progress=done.append)
    record(drive, tmp_path / "again", jobs=2)
    assert done == [1, 2, 3]
    with BagReader(tmp_path / "bag") as bag, BagReader(tmp_path / "again") as again:
        images, labels = list(bag.images(IMAGE_TOPIC)), list(bag.images(LABEL_TOPIC))
        by_several = [image.rgb() for image in again.images(IMAGE_TOPIC)]
        topic, _, data = next(bag.raw([INFO_TOPIC]))
        info = bag.deserialize(topic, data)
    stamps = [START_NS + i * 50_000_000 for i in range(3)]
    assert [m.stamp_ns for m in images] == [m.stamp_ns for m in labels] == stamps
    for index in range(3):
        frame = drive.frame(index)
        assert np.array_equal(images[index].rgb(), frame.image)
        assert np.array_equal(labels[index].array(), frame.label)
        assert np.array_equal(by_several[index], frame.image)
    assert (info.width, info.height, info.k[0]) == (128, 96, drive.camera(0).focal)
