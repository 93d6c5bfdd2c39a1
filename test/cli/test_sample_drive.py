from __future__ import annotations

from pathlib import Path

import pytest

from vl4ad_ros.cli.main import main
from vl4ad_ros.io.bag_reader import BagReader


def test_a_drive_is_written_as_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bag"
    options = ["--seed", "3", "--frames", "2", "--size", "96x64", "--rate", "5", "--jobs", "1"]
    assert main(["sample-drive", "--out", str(out), *options]) == 0
    assert "2 frames 96x64" in capsys.readouterr().out
    with BagReader(out) as bag:
        first, second = bag.images(bag.image_topic())
    assert first.rgb().shape == (64, 96, 3)
    assert second.stamp_ns - first.stamp_ns == 200_000_000


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--size", "96"], "A size is WIDTHxHEIGHT"),
        (["--frames", "0"], "at least 1 frame"),
        (["--rate", "0"], "--rate"),
        (["--jobs", "-1"], "--jobs must be 0 or more"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample-drive", "--out", str(tmp_path / "bag"), *options]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "bag").exists()
