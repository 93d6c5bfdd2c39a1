"""Files are written whole or not at all, whoever fails in between."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import atomic_write, check_writable, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with atomic_write(path) as part:
        part.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert names(path.parent) == ["file.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as part:
        part.write_text("new")
        raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt), atomic_write(path):
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_the_file_has_the_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with atomic_write(tmp_path / "tensors") as part:
        save_file({"a": np.zeros(3, np.float32)}, str(part))
    assert (tmp_path / "tensors").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("place", ["file/below", "folder"])
def test_what_cannot_be_written_is_named_before_the_work(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(Vl4adError, match=place), atomic_write(tmp_path / place):
        pytest.fail("the work began")
    with pytest.raises(Vl4adError, match=place):
        check_writable(tmp_path / place)


def test_checking_changes_nothing(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "other")
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_json_has_no_number_that_json_does_not_know(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"a": [float("nan"), 1.5], "b": (float("inf"), "Straße")})
    text = (tmp_path / "file.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a": [None, 1.5], "b": [None, "Straße"]}
    assert "Straße" in text
