"""The playground without a browser: text to map, explanation, saving, and where pictures come from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from mock_bundle import ColourEncoder
from numpy.typing import NDArray

from vl4ad_ros.cli.main import main
from vl4ad_ros.cli.playground_session import CachingEncoder, PlaygroundSession, Source, open_sources
from vl4ad_ros.drive.render import Drive
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import sha256_file
from vl4ad_ros.prompts.encoders import MINILM_ID
from vl4ad_ros.runtime.detector import Detector

TEXT = "name: {name}\nclasses:\n  street: [road, pavement]\n  nature: [tree, sky]\n"
IMAGE = np.random.default_rng(0).integers(0, 256, (180, 320, 3), dtype=np.uint8)


class WordEncoder:
    """A direction of its own for each word; it remembers what it was asked."""

    id, dim = MINILM_ID, 384

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        self.asked += texts
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") for text in texts]
        rows = np.stack([np.random.default_rng(seed).standard_normal(self.dim) for seed in seeds])
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture(scope="module")
def detector() -> Iterator[Detector]:
    opened = Detector.open("vl4ad-small", threads=1)
    yield opened
    opened.close()


@pytest.fixture
def session(detector: Detector, tmp_path: Path) -> PlaygroundSession:
    sources = [Source("noise", 2, lambda index: IMAGE if index == 0 else IMAGE[:90, :160].copy())]
    texts = (TEXT.format(name="one"), TEXT.format(name="two"))
    made = PlaygroundSession(detector, WordEncoder(), sources, texts, tmp_path / "sets")
    made.update(made.sides[0])
    return made


def the_map(session: PlaygroundSession) -> NDArray[np.float32]:
    result = session.sides[0].result
    assert result is not None
    return result.uncertainty


def test_each_text_is_embedded_once() -> None:
    encoder = WordEncoder()
    cached = CachingEncoder(encoder)
    first = cached.encode(["road", "tree", "road"])
    second = cached.encode(["tree", "cow", "road"])
    assert sorted(encoder.asked) == ["cow", "road", "tree"]
    assert np.array_equal(first[1], second[0]) and np.array_equal(first[0], second[2])


def test_an_edit_changes_the_map_of_its_side(session: PlaygroundSession) -> None:
    before, side = the_map(session), session.sides[0]
    side.text = TEXT.format(name="one").replace("road", "lane") + "ood: [cow]\n"
    session.update(side)
    assert side.error == "" and side.prompts is not None and side.prompts.num_ood == 1
    assert not np.allclose(before, the_map(session))
    assert session.sides[1].result is None


@pytest.mark.parametrize(
    ("text", "said"),
    [("name: [", "YAML"), ("", "mapping"), (TEXT.format(name="x").replace("classes", "clases"), "did you mean"),
     (TEXT.format(name="x") + "superclasses: {a: [lake]}", "lake")],
)  # fmt: skip
def test_with_text_that_cannot_be_used_the_last_map_stays(session: PlaygroundSession, text: str, said: str) -> None:
    before, side = the_map(session), session.sides[0]
    side.text = text
    session.update(side)
    assert said in side.error and "\n" not in side.error
    assert np.array_equal(before, the_map(session))
    with pytest.raises(Vl4adError):
        session.save(side)
    side.text = TEXT.format(name="one")
    session.update(side)
    assert side.error == ""


def test_controls_act_and_a_refused_one_says_why(session: PlaygroundSession) -> None:
    side, before = session.sides[0], the_map(session)
    session.controls.temperature = 0.5
    session.update(side)
    assert not np.allclose(before, the_map(session))
    session.controls.threshold = 0.0
    session.update(side)
    assert side.result is not None and side.result.mask is not None and side.result.mask.all()
    session.controls.temperature = 1e-9
    session.update(side)
    assert "temperature" in side.error and side.result.mask.all()
    session.controls.temperature, session.controls.method = None, "random_word"
    session.reset_threshold()
    session.update(side)
    assert side.error == "" and session.controls.threshold > 0


def test_a_pixel_is_explained_as_by_the_command(
    session: PlaygroundSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    side = session.sides[0]
    session.point = (200, 120)
    session.update(side)
    assert side.found is not None
    assert {near.concept for near in side.found.concepts} == {"road", "pavement", "tree", "sky"}
    picture, file = tmp_path / "noise.png", session.save(side)
    cv2.imwrite(str(picture), cv2.cvtColor(IMAGE, cv2.COLOR_RGB2BGR))
    assert main(["explain", str(picture), "--at", "200,120", "--prompt-set", str(file)]) == 0
    assert "\n".join(side.words) in capsys.readouterr().out
    session.index = 1  # A smaller picture, in which the point is not.
    session.update(side)
    assert side.found is None


def test_a_network_that_cannot_be_explained_says_so(mock_bundle: Path, tmp_path: Path) -> None:
    text = "name: lights\nclasses: {stop: [red]}\n"
    source = Source("noise", 1, lambda index: IMAGE)
    session = PlaygroundSession(Detector.open(mock_bundle), ColourEncoder(), [source], (text, text), tmp_path)
    session.point = (5, 5)
    session.update(session.sides[0])
    assert "dense" in session.sides[0].words[0]
    session.detector.close()


def test_a_saved_set_is_one_that_the_bundle_takes(session: PlaygroundSession) -> None:
    path = session.save(session.sides[0])
    compiled = session.detector.bundle.load_prompt_set(path)
    assert compiled.name == "one" and compiled.source_sha256 == sha256_file(path.with_suffix(".yaml"))
    assert session.prompt_sets()["one (saved)"].read_text() == TEXT.format(name="one")


def test_pictures_come_from_files_videos_bags_and_the_sample_drive(tmp_path: Path) -> None:
    assert main(["sample-drive", "--out", str(tmp_path / "bag"), "--frames", "6", "--size", "128x72"]) == 0
    drive = Drive(0, 6, 128, 72)
    video = cv2.VideoWriter(str(tmp_path / "film.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (128, 72))
    for index in range(6):
        video.write(cv2.cvtColor(drive.frame(index).image, cv2.COLOR_RGB2BGR))
    video.release()
    cv2.imwrite(str(tmp_path / "one.png"), IMAGE)
    bag, film, one = open_sources([tmp_path / "bag", tmp_path / "film.avi", tmp_path / "one.png"])
    assert (bag.count, film.count, one.count) == (6, 6, 1)
    for index in (0, 3, 5):
        assert np.array_equal(bag.read(index), drive.frame(index).image)
        assert np.abs(film.read(index).astype(int) - drive.frame(index).image).mean() < 10
    assert one.read(0).shape == IMAGE.shape
    (drawn,) = open_sources([])
    assert drawn.read(drawn.count - 1).shape[2] == 3
    with pytest.raises(Vl4adError):
        open_sources([tmp_path / "none.png"])
