"""The report page: every object and alarm of a drive is on it, in words, on the timeline and as pictures."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vl4ad_ros.evaluation.component_metrics import TRACKS
from vl4ad_ros.evaluation.frames import Frame
from vl4ad_ros.evaluation.measure import Measurements
from vl4ad_ros.evaluation.predictor import Prediction
from vl4ad_ros.evaluation.report import chosen_pictures, drive_in_words, write_report
from vl4ad_ros.evaluation.result import EvaluationResult, summarise_run
from vl4ad_ros.io.media import encode_jpeg

ABOUT = {
    "source": {"name": "<drive>"}, "detector": {"bundle": "mock"}, "settings": {"threshold": 0.5, "track": "obstacle"},
    "created": "today", "command": "vl4ad evaluate bag <drive>",
}  # fmt: skip


def of_frames(frames: int = 12, *, is_drive: bool = True, labelled: bool = True) -> EvaluationResult:
    """Two objects, of which the left one is found, and a false alarm; 0.5 s a frame."""
    found = Measurements(TRACKS["obstacle"], 0.5)
    labels = np.zeros((60, 120), np.uint8)
    labels[30:40, 10:20] = labels[30:40, 60:70] = 1
    for index in range(frames):
        uncertainty = np.full((60, 120), 0.1, np.float32)
        uncertainty[30:40, 10:20] = uncertainty[50:58, 100:110] = 0.9
        stamp = index * 500_000_000 if is_drive else None
        image = np.zeros((60, 120, 3), np.uint8)
        frame = Frame(index, str(index), image, labels if labelled else None, stamp, drive="a" if is_drive else "")
        found.add(frame, Prediction(uncertainty, {"total": 46.0}, 0.9))
    return summarise_run(found, ABOUT, is_drive)


class Page(HTMLParser):
    """What a page links to, and the text before its first fold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str | None] = set()
        self.folds: list[bool] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [values[name] or "" for name in ("src", "href", "xlink:href", "srcset") if name in values]
        self.ids.add(values.get("id"))
        if tag == "details":
            self.folds.append("open" in values)


def page_of(result: EvaluationResult, path: Path) -> tuple[Page, str]:
    picture = encode_jpeg(np.full((270, 1440, 3), 90, np.uint8))
    write_report(path, result, dict.fromkeys(chosen_pictures(result), picture))
    text = path.read_text(encoding="utf-8")
    return Page(text), text


def test_a_drive_is_put_in_words() -> None:
    result = of_frames()
    assert (
        drive_in_words(result.summary) == "1 of 2 obstacles found; 11 false alarms a minute; with tracks 1 found, "
        "11 false alarms a minute; 46 ms of computing a frame"
    )
    live = result.summary | {"live": {"latency_ms": {"p50": 51.0}}}
    assert "51 ms from camera to map" in drive_in_words(live)
    found = result.summary | {"drive": result.summary["drive"] | {"objects_found": 2, "delay_s": 2.14}}
    assert drive_in_words(found).startswith("2 of 2 obstacles found, typically 2.1 s after they appear")
    unlabelled = drive_in_words(of_frames(labelled=False).summary)
    assert "false" not in unlabelled and "alarms a minute" in unlabelled
    assert drive_in_words(of_frames(is_drive=False).summary) == ""


def test_every_object_and_alarm_of_a_drive_is_on_the_page(tmp_path: Path) -> None:
    result = of_frames()
    page, text = page_of(result, tmp_path / "report.html")
    assert {"#obstacle-1", "#obstacle-2"} <= set(page.links)
    assert {"obstacle-1", "obstacle-2", "false-alarm-1"} <= page.ids
    assert (
        text.index("Timeline") < text.index("Obstacles found") < text.index("False alarms") < text.index("missed</h2>")
    )
    # One when it was first detected and one at its nearest; the missed one and the alarm have one each.
    before_folds = text[: text.index("<details")]
    assert before_folds.count("data:image/jpeg;base64,") == 4
    assert not any(page.folds[:2])


@pytest.mark.parametrize("how", [{}, {"is_drive": False}, {"labelled": False}, {"frames": 1}])
def test_a_page_needs_no_other_file(how: dict[str, Any], tmp_path: Path) -> None:
    page, text = page_of(of_frames(**how), tmp_path / "report.html")
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert "http" not in text.replace("http://www.w3.org", "") and "@import" not in text
    assert "<drive>" not in text


def test_a_data_set_opens_with_figures_and_folds_its_tables(tmp_path: Path) -> None:
    page, text = page_of(of_frames(is_drive=False), tmp_path / "report.html")
    assert text.index('class="figures"') < text.index(">Best frames") < text.index(">Worst frames")
    assert page.folds[:3] == [True, False, False]
    assert "Timeline" not in text


@pytest.mark.parametrize("is_drive", [True, False])
def test_a_browser_shows_the_page_on_wide_and_narrow_screens(is_drive: bool, browser: Any, tmp_path: Path) -> None:
    page_of(of_frames(is_drive=is_drive), tmp_path / "report.html")
    for width, scheme in ((1300, "light"), (1300, "dark"), (400, "light"), (400, "dark")):
        window = browser.new_page(viewport={"width": width, "height": 850}, color_scheme=scheme)
        faults: list[str] = []
        window.on("console", lambda message, faults=faults: faults.append(message.text))
        window.on("pageerror", lambda error, faults=faults: faults.append(str(error)))
        window.goto((tmp_path / "report.html").as_uri())
        window.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
        loaded = window.evaluate("Promise.all([...document.images].map(i => i.decode().then(() => 1, () => 0)))")
        assert loaded and all(loaded)
        assert window.evaluate("document.documentElement.scrollWidth") <= width
        dark = (
            sum(map(int, re.findall(r"\d+", window.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]))
            < 384
        )
        assert dark == (scheme == "dark")
        assert not faults
        window.close()
