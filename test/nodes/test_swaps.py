"""What was in force since when, in the order of the swaps whatever the order of the news."""

from __future__ import annotations

from vl4ad_ros.nodes.swaps import HISTORY, Swaps


def test_news_of_an_older_swap_stays_behind_the_newest() -> None:
    swaps = Swaps()
    swaps.begin(1, "one", "a")
    swaps.begin(2, "two", "b")
    swaps.first_result(1, "front", {"sec": 5, "nanosec": 0})  # was in work when the second came
    swaps.begin(1, "one", "a")
    newest, previous = swaps.told()
    assert newest == {"swap": 2, "name": "two", "version": "b", "since": {}}
    assert previous == [{"swap": 1, "name": "one", "version": "a", "since": {"front": {"sec": 5, "nanosec": 0}}}]
    swaps.first_result(1, "front", {"sec": 2, "nanosec": 0})  # a bag began anew
    assert swaps.told()[1][0]["since"] == {"front": {"sec": 2, "nanosec": 0}}


def test_the_history_is_bounded() -> None:
    swaps = Swaps()
    for swap in range(1, 100):
        swaps.begin(swap, "x", "y")
    swaps.first_result(1, "", {"sec": 0, "nanosec": 0})  # forgotten, and no fault
    newest, previous = swaps.told()
    assert newest["swap"] == 99
    assert [entry["swap"] for entry in previous] == list(range(99 - HISTORY, 99))
