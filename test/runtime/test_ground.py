"""Distances on the ground plane: against geometry, sampling, and the sample drive's own truth."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from vl4ad_ros.drive.render import ANOMALY, Drive
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.ground import GroundPlane
from vl4ad_ros.runtime.regions import find_regions
from vl4ad_ros.runtime.settings import GroundSettings

SIZE = (540, 960)
MATRIX = np.array([[864.0, 0, 479.5], [0, 864, 269.5], [0, 0, 1]])
SETTINGS = GroundSettings(height=1.5, pitch=0.04)
PLACES = np.array([(5.0, 0.5), (12.0, -2.0), (30.0, 3.5), (55.0, -6.0)])


def pixels(places: np.ndarray, settings: GroundSettings = SETTINGS, distortion: tuple[float, ...] = ()) -> np.ndarray:
    """Project places on the ground (forward, left) to the pixels whose lower side they are, [N, 2]."""
    c, s = np.cos(settings.pitch), np.sin(settings.pitch)
    forward, left = places.T
    camera = np.stack([-left, settings.height * c - forward * s, settings.height * s + forward * c], axis=1)
    seen, _ = cv2.projectPoints(camera, np.zeros(3), np.zeros(3), MATRIX, np.array(distortion or (0.0,) * 5))
    return np.asarray(seen[:, 0] - [0, 0.5])


@pytest.mark.parametrize("distortion", [(), (-0.3, 0.1, 0.001, -0.001, 0.0)])
def test_places_on_the_ground_are_found_again(distortion: tuple[float, ...]) -> None:
    plane = GroundPlane(SETTINGS, SIZE, MATRIX, distortion)
    found = plane.locate(pixels(PLACES, distortion=distortion), SIZE)
    np.testing.assert_allclose(np.stack([found.forward, found.left], axis=1), PLACES, rtol=2e-3, atol=5e-3)
    # In the camera's frame the points lie on the plane.
    down = np.array([0, np.cos(SETTINGS.pitch), np.sin(SETTINGS.pitch)])
    np.testing.assert_allclose(found.camera @ down, SETTINGS.height, rtol=1e-6)


def test_a_smaller_map_gives_the_same_places() -> None:
    plane = GroundPlane(SETTINGS, SIZE, MATRIX)
    edge = pixels(PLACES) + np.array([0.5, 1.0])
    found = plane.locate(edge / 2 - [0.5, 1.0], (270, 480))
    np.testing.assert_allclose(found.forward, PLACES[:, 0], rtol=1e-6)


def test_sky_and_far_ground_have_no_place() -> None:
    plane = GroundPlane(SETTINGS, SIZE, MATRIX)
    found = plane.locate([(480, 100), *pixels(np.array([(80.0, 0.0), (59.0, 0.0)]))], SIZE)
    assert np.isfinite(found.forward).tolist() == [False, False, True]
    assert np.isfinite(found.camera).all(axis=1).tolist() == [False, False, True]


def test_the_standard_deviations_are_those_of_samples() -> None:
    rng, count = np.random.default_rng(0), 4000
    found = GroundPlane(SETTINGS, SIZE, MATRIX).locate(pixels(PLACES[:3]), SIZE)
    samples = []
    for _ in range(count):
        height = SETTINGS.height + rng.normal() * SETTINGS.height_sigma
        pitch = SETTINGS.pitch + rng.normal() * SETTINGS.pitch_sigma
        shifted = pixels(PLACES[:3]) + rng.normal(size=(3, 2)) * SETTINGS.pixel_sigma
        one = GroundPlane(GroundSettings(height=height, pitch=pitch, max_distance=1000), SIZE, MATRIX)
        moved = one.locate(shifted, SIZE)
        samples.append((moved.forward, moved.left))
    spread = np.std(np.array(samples), axis=0)
    np.testing.assert_allclose(found.forward_sigma, spread[0], rtol=0.15)
    np.testing.assert_allclose(found.left_sigma, spread[1], rtol=0.15)


@pytest.mark.parametrize(
    ("settings", "matrix", "model", "word"),
    [
        (GroundSettings(), MATRIX, "plumb_bob", "ground.height"),
        (SETTINGS, np.zeros((3, 3)), "plumb_bob", "calibration"),
        (SETTINGS, MATRIX, "equidistant", "equidistant"),
    ],
)
def test_without_calibration_there_is_no_plane(
    settings: GroundSettings, matrix: np.ndarray, model: str, word: str
) -> None:
    with pytest.raises(Vl4adError, match=word):
        GroundPlane(settings, SIZE, matrix, (0.1, 0.0, 0.0, 0.0), model)


def test_distances_on_the_sample_drive() -> None:
    """Against the drive's own truth, up to 30 m; the swaying of its car is left to the standard deviation."""
    height, width, rate = 360, 640, 10.0
    drive = Drive(7, 160, width, height, rate)
    focal = 0.9 * width
    settings = GroundSettings(height=1.5, pitch=float(np.arctan(0.05 * height / focal)))
    matrix = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    plane = GroundPlane(settings, (height, width), matrix)
    errors, deviations = [], []
    for index in range(0, drive.frames, 8):
        camera = drive.camera(index)
        mask = np.where(drive.frame(index).label == ANOMALY, 255, 0).astype(np.uint8)
        regions = [r for r in find_regions(mask, mask / np.float32(255), 30) if 0 < r.x < width - r.width]
        ahead = np.array([np.sin(camera.yaw), np.cos(camera.yaw)])
        truth = []
        for thing in drive.world.things:
            if thing.anomaly:
                x = thing.x + thing.stroll * np.sin(1.1 * index / rate + thing.z)
                x += float(drive.world.road.centre(np.array([thing.z], np.float32))[0])
                there = np.array([x, thing.z]) - np.array(camera.position)[[0, 2]]
                front = min(float(quad.origin[2]) for quad in thing.quads)
                truth.append((there @ ahead + front, there @ [-ahead[1], ahead[0]]))
        for obstacle in plane.obstacles([replace(r, confirmed=True) for r in regions], (height, width)):
            distance, left, sigma, _ = obstacle.place
            true = min(truth, key=lambda place: np.hypot(place[0] - distance, place[1] - left))[0]
            if 0 < true <= 30:
                errors.append(abs(distance - true) / true)
                deviations.append(abs(distance - true) / sigma)
    assert len(errors) >= 12
    assert np.median(errors) < 0.05
    assert np.mean(np.array(deviations) < 2) > 0.8
