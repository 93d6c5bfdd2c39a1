"""The pipeline over the mock network: batches, sizes, regions of interest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mock_bundle import STRIDE, red_uncertainty
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.runtime.detector import Detector, next_state
from vl4ad_ros.runtime.frames import FrameState, Job, RoiMask, Wanted
from vl4ad_ros.runtime.settings import PARAMETERS

VALUES: dict[str, Any] = {parameter.name: parameter.default for parameter in PARAMETERS} | {"prompt_set": "traffic"}
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def plain(colour: tuple[int, int, int], height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), colour, np.uint8)


@pytest.fixture
def detector(mock_bundle: Path) -> Detector:
    return Detector.open(mock_bundle, threads=1)


def state(detector: Detector, **changes: Any) -> FrameState:
    return next_state(detector, VALUES | changes, None)


def test_frames_of_several_sizes_keep_their_order(detector: Detector) -> None:
    jobs = [Job(plain(RED, 64, 96)), Job(plain(BLUE, 96, 64)), Job(plain(BLUE, 128, 192)), Job(plain(GREEN, 64, 96))]
    results = detector.process(jobs, state(detector))
    for job, result in zip(jobs, results, strict=True):
        assert result.uncertainty.shape == job.image.shape[:2]
    means = [float(result.uncertainty.mean()) for result in results]
    assert means == pytest.approx([red_uncertainty(), 0.5, 0.5, red_uncertainty()], abs=1e-5)


def test_output_sizes(detector: Detector) -> None:
    image = plain(RED, 128, 192)
    network = detector.bundle.network_size(128, 192)
    sizes = {"input": (128, 192), "network": network, "mask": (network[0] // STRIDE, network[1] // STRIDE)}
    for name, size in sizes.items():
        (result,) = detector.process([Job(image)], state(detector, output_size=name))
        assert result.uncertainty.shape == size
        assert result.mask is not None
        assert result.mask.shape == size


def test_only_what_is_wanted_is_made(detector: Detector) -> None:
    image = plain(BLUE, 64, 96)
    (result,) = detector.process([Job(image, Wanted(uncertainty=True, mask=False))], state(detector))
    assert (result.mask, result.regions) == (None, None)
    (result,) = detector.process([Job(image, Wanted(False, False, regions=True))], state(detector, threshold=0.4))
    assert result.regions is not None
    assert [region.area for region in result.regions] == [64 * 96]
    assert not Wanted(False, False, False).anything


def test_region_of_interest(detector: Detector, tmp_path: Path) -> None:
    roi = np.zeros((8, 12), np.uint8)
    roi[:, 6:] = 255  # look at the right half
    cv2.imwrite(str(tmp_path / "roi.png"), roi)
    job = Job(plain(BLUE, 64, 96), Wanted(regions=True), RoiMask(str(tmp_path / "roi.png")))
    (result,) = detector.process([job], state(detector, threshold=0.0))
    assert result.uncertainty[:, :48].max() == 0
    assert result.uncertainty[:, 48:] == pytest.approx(0.5, abs=1e-5)
    assert result.mask is not None
    assert (result.mask[:, :48].max(), result.mask[:, 48:].min()) == (0, 255)
    assert result.regions is not None
    assert [(region.x, region.width, region.area) for region in result.regions] == [(48, 48, 48 * 64)]
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((8, 12), np.uint8))
    with pytest.raises(Vl4adError, match="black all over"):
        RoiMask(str(tmp_path / "black.png"))


def test_a_state_is_made_anew_only_where_something_changed(detector: Detector) -> None:
    first = state(detector)
    slower = next_state(detector, VALUES | {"max_rate": 5.0}, first, frozenset({"max_rate"}))
    assert (slower.version, slower.prompts, slower.output.max_rate) == (first.version, first.prompts, 5.0)
    other = next_state(detector, VALUES | {"prompt_set": "merged"}, first, frozenset({"prompt_set"}))
    assert (other.version, other.prompts.prompt_set.name) == (first.version + 1, "merged")
    assert first.prompts.prompt_set.name == "traffic"
    again = next_state(detector, VALUES, first, frozenset({"prompt_set", "threshold"}))
    assert again.version == first.version
    with pytest.raises(Vl4adError, match="has no method 'random_word'"):
        state(detector, method="random_word")
