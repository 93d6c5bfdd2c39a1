"""Newest frame wins, and cameras take turns."""

from __future__ import annotations

import threading
from collections import Counter

from vl4ad_ros.nodes.slots import Slots


def test_a_newer_frame_replaces_one_that_waits() -> None:
    slots: Slots[str] = Slots(1)
    assert not slots.put(0, "old")
    assert slots.put(0, "new")
    (taken,) = slots.take(1, 0.0)
    assert (taken.camera, taken.item) == (0, "new")
    assert not slots.put(0, "next")


def test_under_overload_each_camera_gets_its_turn() -> None:
    slots: Slots[int] = Slots(4)
    served: Counter[int] = Counter()
    for number in range(120):
        for camera in range(4):  # every camera is faster than the worker
            slots.put(camera, number)
        served.update(taken.camera for taken in slots.take(3, 0.0))
    assert served == dict.fromkeys(range(4), 90)


def test_a_batch_waits_for_the_others_only_as_long_as_it_may() -> None:
    slots: Slots[str] = Slots(2)
    slots.put(0, "here")
    assert [taken.item for taken in slots.take(2, 0.01)] == ["here"]
    slots.put(0, "first")
    threading.Timer(0.05, slots.put, (1, "second")).start()
    assert {taken.item for taken in slots.take(2, 60.0)} == {"first", "second"}


def test_closing_wakes_the_taker_and_drops_what_waits() -> None:
    slots: Slots[str] = Slots(1)
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(len(slots.take(1, 0.0))))
    thread.start()
    slots.close()
    thread.join(60)
    assert results == [0]
    slots = Slots(1)
    slots.put(0, "waiting")
    assert slots.close() == 1
    assert list(slots.take(1, 0.0)) == []
