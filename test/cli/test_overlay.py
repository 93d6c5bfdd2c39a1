from __future__ import annotations

import numpy as np
import pytest

from vl4ad_ros.io.drawing import OUTLINE, draw_legend, draw_overlay, draw_text

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def test_an_alarm_stands_out_from_uncertain_pixels_below_the_threshold() -> None:
    grey = np.full((60, 80, 3), 100, np.uint8)
    uncertainty = np.tile(np.linspace(0, 1, 80, dtype=np.float32), (60, 1))
    drawn = draw_overlay(grey, uncertainty, (uncertainty >= 0.75).astype(np.uint8)).astype(int)
    colour = drawn.max(axis=2) - drawn.min(axis=2)
    assert colour[30, 0] == 0
    assert (np.diff(colour[30, :57]) >= 0).all(), "more uncertain, more colour"
    assert colour[30, 64:76].min() > 1.5 * colour[30, :57].max()


def test_without_a_mask_the_map_is_seen() -> None:
    grey = np.full((60, 80, 3), 100, np.uint8)
    uncertainty = np.full((60, 80), 0.5, np.float32)
    drawn = draw_overlay(grey, uncertainty).astype(int)
    faint = draw_overlay(grey, uncertainty, np.zeros((60, 80), np.uint8)).astype(int)
    assert np.ptp(drawn, axis=2).min() > 2 * np.ptp(faint, axis=2).max()


def test_the_outline_follows_the_mask() -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 30:60] = 255
    certain = np.zeros((60, 80), np.float32)
    changed = (draw_overlay(IMAGE, certain, mask) != draw_overlay(IMAGE, certain, 0 * mask)).any(axis=2)
    assert (draw_overlay(IMAGE, certain, mask)[19, 35:55] == OUTLINE).all()
    assert changed[20:40, 30:60].all()
    assert not changed[:16].any()
    assert not changed[:, :26].any()


@pytest.mark.parametrize("height", [60, 540, 1080])
def test_of_a_small_alarm_the_fill_is_seen(height: int) -> None:
    mask = np.zeros((height, 120), np.uint8)
    mask[20:24, 50:54] = 255
    grey = np.full((height, 120, 3), 100, np.uint8)
    drawn = draw_overlay(grey, np.zeros((height, 120), np.float32), mask).astype(int)
    assert (drawn[20:24, 50:54, 0] - drawn[20:24, 50:54, 1] > 60).all()


def test_maps_of_another_size_are_fitted_to_the_image() -> None:
    small = np.zeros((15, 20), np.float32)
    small[:, 10:] = 1
    mask = np.uint8(255) * (small > 0.5).astype(np.uint8)
    drawn = draw_overlay(IMAGE, small, mask)
    assert drawn.shape == IMAGE.shape
    bare = draw_overlay(IMAGE, np.zeros((60, 80), np.float32), 0 * mask)
    inside = (drawn != bare).any(axis=2)
    assert inside[:, 44:].mean() > 0.99
    assert not inside[:, :30].any()


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
    # At the level of the bar: more colour from left to right, a white line at the threshold, the mask's fill beyond.
    bar = drawn[526, 18:178].astype(int)
    outline = (bar == OUTLINE).all(axis=1)
    colour = np.ptp(bar, axis=1)[~outline]
    assert (np.diff(colour) >= -1).all()
    assert len(set(colour[-30:])) == 1
    assert colour[-1] > 1.5 * colour[110]
    assert np.flatnonzero(outline).mean() == pytest.approx(0.75 * 159, abs=1.5)


def test_text_is_moved_into_the_picture() -> None:
    for origin in ((-50, -50), (5000, 5000)):
        drawn = np.full((200, 300, 3), 100, np.uint8)
        draw_text(drawn, "0.93", origin)
        assert (drawn == 255).all(axis=2).any()
    tiny = np.zeros((8, 8, 3), np.uint8)
    draw_legend(tiny, 0.5)
    draw_text(tiny, "too long for this", (0, 0))
