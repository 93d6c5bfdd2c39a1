from __future__ import annotations

import numpy as np
import pytest

from vl4ad_ros.io.drawing import OUTLINE, draw_legend, draw_overlay, draw_text

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


def test_the_legend_shows_the_colours_and_the_threshold_in_its_corner() -> None:
    drawn = np.full((540, 960, 3), 100, np.uint8)
    draw_legend(drawn, 0.75)
    changed = (drawn != 100).any(axis=2)
    assert not changed[:500].any()
    assert not changed[:, 240:].any()
    # At the level of the bar: the colours of 0 to 1, as draw_overlay gives them on black.
    ramp = draw_overlay(np.zeros((1, 160, 3), np.uint8), np.linspace(0, 1, 160, dtype=np.float32)[None])[0]
    bar = drawn[526, 18:178].astype(int)
    outline = (bar == OUTLINE).all(axis=1)
    assert np.abs(bar // 2 - ramp)[~outline].max() <= 2
    assert np.flatnonzero(outline).mean() == pytest.approx(0.75 * 159, abs=1.5)


def test_text_is_moved_into_the_picture() -> None:
    for origin in ((-50, -50), (5000, 5000)):
        drawn = np.full((200, 300, 3), 100, np.uint8)
        draw_text(drawn, "0.93", origin)
        assert (drawn == 255).all(axis=2).any()
    tiny = np.zeros((8, 8, 3), np.uint8)
    draw_legend(tiny, 0.5)
    draw_text(tiny, "too long for this", (0, 0))
