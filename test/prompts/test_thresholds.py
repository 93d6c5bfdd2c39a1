"""Thresholds of prompt sets: a swap keeps the rate of alarms, and a set without one says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from vl4ad_ros.cli.main import main
from vl4ad_ros.evaluation.prompt_thresholds import lowest_level
from vl4ad_ros.io.media import read_picture
from vl4ad_ros.runtime.bundle import PROMPTS, ModelBundle, write_card
from vl4ad_ros.runtime.detector import Detector
from vl4ad_ros.runtime.frames import Job, Wanted
from vl4ad_ros.runtime.settings import OutputSettings

KEY = "vl4ad/vl4ad"


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Pictures of coloured blobs; with `traffic_ood` the mock network is less certain of them than with `traffic`."""
    (tmp_path / "frames").mkdir()
    rng = np.random.default_rng(0)
    for index in range(8):
        blobs = cv2.resize(rng.integers(0, 256, (12, 18, 3), np.uint8), (192, 128), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(tmp_path / "frames" / f"{index}.png"), blobs)
    return tmp_path / "frames"


@pytest.fixture
def bundle(mock_bundle: Path) -> Path:
    """The mock bundle with a threshold at which its default set has some alarms."""
    card = ModelBundle.load(mock_bundle).card
    write_card(mock_bundle, card.model_copy(update={"default_threshold": 0.45}))
    return mock_bundle


def alarms(bundle: Path, prompt_set: str, frames: Path) -> int:
    """Regions of 50 pixels and more on all frames, with the threshold that the set has without a user's."""
    detector = Detector.open(bundle, threads=1)
    state = replace(detector.state(prompt_set), output=OutputSettings(min_region_area=50))
    found = 0
    for path in sorted(frames.iterdir()):
        job = Job(read_picture(path), Wanted(regions=True))
        found += len(detector.process([job], state)[0].regions or ())
    detector.close()
    return found


def test_a_swap_keeps_the_rate_of_alarms(bundle: Path, frames: Path) -> None:
    usual, before = alarms(bundle, "traffic", frames), alarms(bundle, "traffic_ood", frames)
    assert usual >= 20
    assert abs(before - usual) > 0.5 * usual
    assert main(["prompts", "thresholds", "--bundle", str(bundle), "--frames", str(frames)]) == 0
    assert abs(alarms(bundle, "traffic_ood", frames) - usual) < 0.2 * usual
    loaded = ModelBundle.load(bundle)
    assert loaded.load_prompt_set("traffic").thresholds is None
    assert set(loaded.load_prompt_set("merged").thresholds or {}) == {KEY}


def test_compile_measures_a_new_set(bundle: Path, frames: Path, tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text("name: two\nclasses: {stop: [red], go: [green]}\nood: [blue]\n")
    rows = np.eye(3, dtype=np.float32)
    np.save(tmp_path / "rows.npy", rows)
    command = ["prompts", "compile", str(tmp_path / "two.yaml"), "--bundle", str(bundle)]
    command += ["--from-npy", str(tmp_path / "rows.npy")]
    assert main(command) == 0
    assert ModelBundle.load(bundle).load_prompt_set("two").thresholds is None
    # What is compiled already is measured all the same.
    assert main([*command, "--frames", str(frames)]) == 0
    assert ModelBundle.load(bundle).load_prompt_set("two").thresholds is not None
    assert abs(alarms(bundle, "two", frames) - alarms(bundle, "traffic", frames)) < 12


def test_only_thresholds_of_this_graph_count_and_others_are_said(bundle: Path) -> None:
    loaded = ModelBundle.load(bundle)
    path = loaded.find_file(PROMPTS, "merged")
    measured = replace(loaded.load_prompt_set("merged"), thresholds={KEY: 0.7}, thresholds_graph=loaded.onnx_sha256)
    detector = Detector.open(bundle, threads=1)
    for compiled, threshold, chosen_for in (
        (measured, 0.7, "merged"),
        (replace(measured, thresholds_graph="of another one"), 0.45, "traffic"),
    ):
        compiled.save(path)
        state = detector.state("merged")
        assert (state.threshold, state.threshold_from) == (threshold, chosen_for)
        assert ("threshold of its own" in state.threshold_note) == (chosen_for == "traffic")
        assert detector.state("merged", scoring="msp").threshold_note
        given = detector.state("merged", threshold=0.2)
        assert (given.threshold, given.threshold_from, given.threshold_note) == (0.2, "given", "")
    assert not detector.state().threshold_note
    detector.close()


@pytest.mark.parametrize(
    ("counts", "most", "level"),
    [([9, 4, 2, 1], 3, 0.6), ([1, 4, 2, 1], 3, 0.6), ([0, 0, 0, 0], 0, 0.2), ([5] * 4, 3, 1)],
)
def test_the_lowest_level_keeps_the_rate_from_there_upwards(counts: list[int], most: float, level: float) -> None:
    assert lowest_level(np.array(counts), np.array([0.2, 0.4, 0.6, 0.8]), most) == level
