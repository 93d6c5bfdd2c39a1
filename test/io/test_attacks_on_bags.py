"""Bags and films made to break a reader: within memory and time, each costs itself and is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import lz4.frame
import numpy as np
import pytest
from backports import zstd
from bombs import chunk, indexed, recording, zeros
from rosbags.rosbag2 import storage_mcap

from vl4ad_ros.cli.main import main
from vl4ad_ros.evaluation.bag_source import BagSource
from vl4ad_ros.io.bag_reader import MAX_GAP_S, BagReader
from vl4ad_ros.io.bag_writer import IMAGE, IMAGE_TOPIC, START_NS, BagWriter
from vl4ad_ros.io.unpacking import MAX_UNPACKED

PIXELS = np.random.default_rng(18).integers(0, 256, (16, 24, 3), dtype=np.uint8)
TWICE = 2 * MAX_UNPACKED


@pytest.mark.parametrize(
    ("make", "keyword"),
    [
        (lambda path: recording(path, chunk("zstd", zeros("zstd", TWICE), TWICE)), "larger"),
        (lambda path: recording(path, chunk("lz4", zeros("lz4", TWICE), TWICE)), "larger"),
        (lambda path: recording(path, chunk("zstd", zeros("zstd", TWICE), 100)), "larger"),
        (lambda path: recording(path, chunk("lz4", zeros("lz4", TWICE), 100)), "larger"),
        (lambda path: recording(path, chunk("zstd", zstd.compress(b"\3bc"), 2**62)), "mismatch"),
        (lambda path: recording(path, chunk("zstd", b"abc", 3)), "cannot be read"),
        (lambda path: recording(path, chunk("gzip", b"abc", 3)), "gzip"),
        (lambda path: recording(path, chunk("", inner := chunk("", b"", 0), len(inner))), "begin"),
        (lambda path: recording(path, b"\3" + b"\xff" * 8), "cannot be read"),
        (lambda path: indexed(path, 3, MAX_UNPACKED // 2), "one moment"),
    ],
)
def test_a_bomb_is_not_unpacked(
    make: Callable[[Path], Path], keyword: str, mock_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = make(tmp_path / "bag.mcap")
    assert main(["evaluate", "bag", str(bag), "--out", str(tmp_path / "out"), "--bundle", str(mock_bundle)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert keyword in line and str(bag) in line
    assert sum(file.stat().st_size for file in (tmp_path / "out").rglob("*") if file.is_file()) < 1 << 20


def write_bag(path: Path, count: int = 4, stamps: Callable[[int], int] = lambda i: i * 100_000_000) -> Path:
    with BagWriter(path) as bag:
        bag.add_topic(IMAGE_TOPIC, IMAGE)
        for index in range(count):
            stamp = START_NS + stamps(index)
            bag.write(IMAGE_TOPIC, stamp, bag.image(PIXELS, "rgb8", stamp, "camera"))
    return path


@pytest.mark.parametrize("pack", [zstd.compress, lz4.frame.compress])
def test_what_is_usual_is_still_unpacked(pack: Callable[[bytes], bytes]) -> None:
    kind = "lz4" if pack is lz4.frame.compress else "zstd"
    assert storage_mcap.decompress(pack(b"\3bcd" * 100), kind, 400, 0) == b"\3bcd" * 100


def images(bag: Path) -> Iterator[Any]:
    with BagReader(bag) as reader:
        yield from reader.images(IMAGE_TOPIC)


@pytest.mark.parametrize("content", [b"", b"\0", b"\0\1\0\0", b"\0\1\0\0" + b"\xff" * 40, b"\7\7\7\7" * 30])
def test_a_message_that_cannot_be_decoded_costs_itself(content: bytes, tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic(IMAGE_TOPIC, IMAGE)
        for index in range(4):
            stamp = START_NS + index * 100_000_000
            if index == 1:
                bag.write_raw(IMAGE_TOPIC, stamp, content)
            else:
                bag.write(IMAGE_TOPIC, stamp, bag.image(PIXELS, "rgb8", stamp, "camera"))
    source = BagSource(tmp_path / "bag")
    assert len(list(source.frames(range(len(source))))) == 3
    (problem,) = source.problems
    assert problem.startswith("1 messages") and "cannot be decoded" in problem


def test_absurd_gaps_between_stamps_are_capped_and_named(mock_bundle: Path, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", stamps=lambda index: index * 100_000_000 + (index > 1) * 300_000_000 * 10**9)
    out = tmp_path / "out"
    assert main(["evaluate", "bag", str(bag), "--out", str(out), "--bundle", str(mock_bundle)]) == 0
    result = json.loads((out / "result.json").read_text())
    assert "1 gaps" in " ".join(result["problems"])
    assert result["drive"]["lengths_s"] == {"bag": pytest.approx(0.2 + MAX_GAP_S)}


def film(path: Path, share: float) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (24, 16))
    for _ in range(20):
        writer.write(PIXELS)
    writer.release()
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


@pytest.mark.parametrize("command", ["detect {} --bundle {bundle} --out {out}", "make-bag {} --out {out}"])
def test_what_a_film_lacks_is_named_and_the_rest_is_kept(
    command: str, mock_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for name, share in (("a.avi", 1.0), ("b.avi", 0.5)):
        film(tmp_path / "in" / name, share)
    out = tmp_path / "out"
    assert main(command.format(tmp_path / "in", bundle=mock_bundle, out=out).split()) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "b.avi" in line and "of its 20 frames" in line and "a.avi" not in line
    if command.startswith("detect"):
        found = len(json.loads((out / "result.json").read_text())["pictures"])
    else:
        found = len(list(images(out)))
    assert 20 < found < 40


def test_a_folder_without_a_readable_film_makes_no_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.avi").write_bytes(b"no film")
    assert main(["make-bag", str(tmp_path / "in"), "--out", str(tmp_path / "bag")]) == 2
    assert "a.avi" in capsys.readouterr().err
    assert not (tmp_path / "bag").exists()


def test_a_second_run_into_one_folder_tells_what_is_not_its_own(
    mock_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), PIXELS)
    out = tmp_path / "out"
    options = ["--out", str(out), "--bundle", str(mock_bundle)]
    assert main(["detect", str(tmp_path / "a.png"), *options]) == 0
    assert "earlier" not in capsys.readouterr().out
    assert main(["detect", str(tmp_path / "b.png"), *options]) == 0
    assert "3 files" in capsys.readouterr().out
    with monkeypatch.context() as patch:  # Where the second run is killed, nothing says that the folder is whole.
        patch.setattr("vl4ad_ros.cli.detect.write_mask", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            main(["detect", str(tmp_path / "a.png"), *options, "--threshold", "0.9"])
    assert not (out / "result.json").exists()
