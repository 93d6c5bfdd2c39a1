"""Tracks: ids stay with their things, noise is never confirmed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from vl4ad_ros.runtime.regions import Region, find_regions
from vl4ad_ros.runtime.settings import TrackSettings
from vl4ad_ros.runtime.tracks import Tracker

THRESHOLD = 0.5


def region(x: float, y: float, width: float, height: float, score: float = 0.9) -> Region:
    return Region(round(x), round(y), round(width), round(height), round(width * height), score, score)


def approaching(distance: float, lateral: float) -> Region:
    """What a camera (focal length 800, 1.5 m high) sees of a thing 1.5 m wide and 1 m high."""
    bottom = 270 + 800 * 1.5 / distance
    return region(480 + 800 * (lateral - 0.75) / distance, bottom - 800 / distance, 1200 / distance, 800 / distance)


def run(tracker: Tracker, frames: Sequence[Sequence[Region]], rate: float = 10.0) -> list[tuple[Region, ...]]:
    return [tracker.update(regions, index / rate, THRESHOLD) for index, regions in enumerate(frames)]


def test_things_that_come_nearer_keep_their_ids() -> None:
    frames = [[approaching(60 - 1.5 * i, -2.5), approaching(45 - 1.5 * i, 2.0)] for i in range(25)]
    results = run(Tracker(), [sorted(frame, key=lambda r: -r.area) for frame in frames])
    ids = [{(one.x > 480): one.id for one in result} for result in results]
    assert all(found == ids[0] for found in ids)
    assert len(set(ids[0].values())) == 2
    assert [one.confirmed for one in results[1]] == [False, False]
    assert all(one.confirmed for result in results[2:] for one in result)
    assert [one.frames for one in results[-1]] == [25, 25]
    assert [one.seconds for one in results[-1]] == pytest.approx([2.4, 2.4])


def test_a_gap_keeps_the_id_and_the_confirmation_until_patience_ends() -> None:
    thing = region(100, 100, 40, 40)
    patience = TrackSettings(patience_s=0.45)
    results = run(Tracker(patience), [[thing]] * 5 + [[]] * 3 + [[thing]] + [[]] * 6 + [[thing]])
    assert [(one.id, one.confirmed) for one in results[8]] == [(1, True)]
    assert [(one.id, one.confirmed) for one in results[-1]] == [(2, False)]


def test_a_track_begins_above_the_upper_threshold_and_goes_on_above_the_lower() -> None:
    weak, strong = region(100, 100, 40, 40, 0.52), region(100, 100, 40, 40, 0.6)
    results = run(Tracker(), [[weak], [strong], [weak], [weak], [weak]])
    assert [result[0].id for result in results] == [0, 1, 1, 1, 1]
    assert [result[0].confirmed for result in results] == [False, False, False, True, True]


def test_noise_is_never_confirmed() -> None:
    rng = np.random.default_rng(1)
    frames = [[region(rng.uniform(0, 900), rng.uniform(0, 900), 8, 8) for _ in range(4)] for _ in range(60)]
    assert not any(one.confirmed for result in run(Tracker(), frames) for one in result)


def test_pieces_of_a_thing_share_its_id() -> None:
    whole, pieces = [region(100, 100, 80, 60)], [region(100, 100, 50, 60), region(155, 110, 25, 40)]
    results = run(Tracker(), [whole, whole, whole, pieces, pieces, whole])
    assert [[one.id for one in result] for result in results] == [[1], [1], [1], [1, 1], [1, 1], [1]]


def test_time_that_goes_back_ends_all_tracks_but_no_id_comes_again() -> None:
    tracker, thing = Tracker(), region(100, 100, 40, 40)
    assert tracker.update([thing], 5.0, THRESHOLD)[0].id == 1
    assert tracker.update([thing], 4.95, THRESHOLD)[0].id == 1  # a frame that was overtaken
    again = tracker.update([thing], 1.0, THRESHOLD)[0]
    assert (again.id, again.frames, again.confirmed) == (2, 1, False)


def test_contacts_are_a_regions_feet() -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[10:30, 10:50] = 255
    mask[30:50, 12:16] = mask[30:50, 40:44] = 255
    (found,) = find_regions(mask, mask / np.float32(255))
    assert {column for column, _ in found.contacts} == {*range(12, 16), *range(40, 44)}
    assert {row for _, row in found.contacts} == {49}
    assert "contacts" not in found.as_dict()
