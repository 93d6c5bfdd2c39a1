from __future__ import annotations

import numpy as np

from vl4ad_ros.overlay import OUTLINE, draw_overlay

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def test_certain_pixels_get_darker_and_uncertain_ones_light_up() -> None:
    grey = np.full((60, 80, 3), 100, np.uint8)
    uncertainty = np.zeros((60, 80), np.float32)
    uncertainty[:, 40:] = 1
    drawn = draw_overlay(grey, uncertainty)
    assert np.abs(drawn[:, :40].astype(int) - 50).max() <= 3  # Half of the image, and black.
    assert drawn[:, 40:].astype(int).sum(axis=2).min() > 1.5 * 3 * 100
    assert drawn.shape == grey.shape
    assert drawn.dtype == np.uint8


def test_more_uncertainty_is_never_darker() -> None:
    ramp = np.tile(np.linspace(0, 1, 256, dtype=np.float32), (8, 1))
    brightness = draw_overlay(np.zeros((8, 256, 3), np.uint8), ramp)[0].astype(int).sum(axis=1)
    assert (np.diff(brightness) >= -2).all()
    assert brightness[-1] > 5 * brightness[32]


def test_the_outline_follows_the_mask_and_spares_its_inside() -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 30:60] = 255
    plain = draw_overlay(IMAGE, np.zeros((60, 80), np.float32))
    drawn = draw_overlay(IMAGE, np.zeros((60, 80), np.float32), mask)
    changed = (drawn != plain).any(axis=2)
    assert (drawn[20, 35:55] == OUTLINE).all()
    assert not changed[24:36, 34:56].any()
    assert not changed[:16].any()
    assert not changed[:, :26].any()


def test_maps_of_another_size_are_fitted_to_the_image() -> None:
    small = np.zeros((15, 20), np.float32)
    small[:, 10:] = 1
    mask = np.uint8(255) * (small > 0.5).astype(np.uint8)
    drawn = draw_overlay(IMAGE, small, mask)
    assert drawn.shape == IMAGE.shape
    assert drawn[:, 60:].astype(int).mean() > drawn[:, :20].astype(int).mean() + 60


def test_captions_stay_in_their_corner_and_the_image_as_it_was() -> None:
    before = IMAGE.copy()
    flat = np.zeros((60, 80), np.float32)
    changed = (draw_overlay(IMAGE, flat, None, ["ab"]) != draw_overlay(IMAGE, flat)).any(axis=2)
    assert changed.any()
    assert not changed[20:].any()
    assert np.array_equal(IMAGE, before)
