"""`vl4ad train` as a whole: what is refused before the first step, what is said, and who writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_run import TABLE, plain_config, write_frames
from toy_text import ToyEncoder

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.network.config import VL4AD_TINY
from vl4ad_ros.training import command
from vl4ad_ros.training.checkpoint import BEST, LAST
from vl4ad_ros.training.command import TrainOptions, train
from vl4ad_ros.training.loop import Trainer
from vl4ad_ros.training.processes import Group
from vl4ad_ros.training.report import CURVE_FILE, CURVE_PICTURE


class WideToy(ToyEncoder):
    dim = VL4AD_TINY.head.embedding_dim


@pytest.fixture(autouse=True)
def toy_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "create_encoder", lambda *_: ToyEncoder())


def run(folder: Path, plain: dict[str, Any], **options: Any) -> list[str]:
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(plain))
    return list(train(TrainOptions(path, device="cpu", **options)))


def small(data: Path, output: Path, **changes: Any) -> dict[str, Any]:
    return plain_config(data, output, objects=None, **changes)


def with_export(data: Path, output: Path, **changes: Any) -> dict[str, Any]:
    plain = small(data, output)
    return {**plain, "export": {**plain["export"], **changes}}


def test_a_good_configuration_passes_the_check(tmp_path: Path, tiny_data: Path) -> None:
    test = [{"name": "test", "root": "val", "classes": TABLE}]
    lines = run(tmp_path, with_export(tiny_data, tmp_path / "out", test=test), check_only=True)
    assert lines[-1] == "configuration and data are in order"
    assert not any(line.startswith("note") for line in lines)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt_sets": ["nope"]}, "no prompt set 'nope'"),
        ({"default_prompt_set": "vocabulary"}, r"default_prompt_set: expected one of \['tiny'\], got 'vocabulary'"),
        ({"prompt_sets": ["cityscapes", "cityscapes"]}, "two sets have the name 'cityscapes'"),
        ({"name": ""}, "export.name"),
        ({"test": [{"name": "t", "root": "nowhere", "classes": TABLE}]}, "'t': the folder .*nowhere.* does not exist"),
        ({"test": [{"name": "t", "root": "val", "classes": {"0": "moon"}}]}, "'t' maps label 0 to the unknown class"),
        ({"test": [{"name": "t", "root": "val", "classes": {"0": "sky"}}]}, "2 data errors;[^?]*unknown label 1, 2"),
    ],
)
def test_what_the_export_lacks_is_found_before_training(
    tmp_path: Path, tiny_data: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(Vl4adError, match=message):
        run(tmp_path, with_export(tiny_data, tmp_path / "out", **changes), check_only=True)


def test_a_prompt_set_that_the_graph_cannot_hold_is_found_before_training(tmp_path: Path, tiny_data: Path) -> None:
    large = {"name": "large", "classes": {"road": [f"road {index}" for index in range(25)]}}
    (tmp_path / "large.yaml").write_text(yaml.safe_dump(large))
    plain = with_export(tiny_data, tmp_path, prompt_sets=[str(tmp_path / "large.yaml")], default_prompt_set="large")
    with pytest.raises(Vl4adError, match="'large' has 25 concepts in one class, but the model takes at most 24"):
        run(tmp_path, plain, check_only=True)
    assert run(tmp_path, plain, check_only=True, export=False)[-1] == "configuration and data are in order"


@pytest.mark.parametrize(
    ("model", "height", "message"),
    [
        ({"network": "nope"}, 64, "no network 'nope'"),
        ({"network": "vl4ad-l"}, 64, "embeddings of 768 numbers, the text encoder 384"),
        ({"network": "vl4ad-tiny", "backbone": "none.safetensors"}, 64, "there is no file none.safetensors"),
        ({"network": "vl4ad-lite", "backbone": "none.safetensors"}, 64, "only CLIP's towers"),
        ({"network": "small", "backbone": "none.safetensors"}, 64, "'small' has no CLIP tower"),
        ({"network": "vl4ad-tiny"}, 64, r"several classes \(bus, car\)"),
        ({"network": "vl4ad-tiny"}, 70, "multiples of 32, got 70 x 96"),
    ],
)
def test_a_wrong_network_is_found_by_the_check(
    tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch, model: dict[str, Any], height: int, message: str
) -> None:
    monkeypatch.setattr(command, "create_encoder", lambda *_: WideToy())
    plain = {**with_export(tiny_data, tmp_path, height=height), "model": model}
    with pytest.raises(Vl4adError, match=message):
        run(tmp_path, plain, check_only=True)


def test_labels_without_a_picture_are_worth_a_note(tmp_path: Path, tiny_data: Path) -> None:
    root = tmp_path / "frames"
    write_frames(root, 3)
    (root / "images/1.png").unlink()
    sets = [{"name": "lone", "root": str(root), "classes": TABLE}]
    lines = run(tmp_path, small(tiny_data, tmp_path, datasets=sets), check_only=True)
    (note,) = (line for line in lines if line.startswith("note"))
    assert str(root / "labels/1.png") in note


def test_fewer_samples_than_processes_are_refused(
    tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "join_group", lambda: Group(0, 3))
    with pytest.raises(Vl4adError, match="batch: 3 processes need at least one sample each, got 2"):
        run(tmp_path, small(tiny_data, tmp_path))


def test_only_the_first_process_writes(tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "run", Trainer.validate)
    for rank in (1, 0):
        monkeypatch.setattr(command, "join_group", lambda rank=rank: Group(rank, 2))
        lines = run(tmp_path, small(tiny_data, tmp_path / "out"), export=False)
        assert bool(lines) == (rank == 0)
        assert (tmp_path / "out").exists() == (rank == 0)
    assert {CURVE_FILE, CURVE_PICTURE, BEST, "tensorboard"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_a_finished_run_is_said_to_be_finished(tmp_path: Path, tiny_data: Path) -> None:
    optimizer = {"steps": 2, "warmup": 0, "cooldown": 0}
    plain = small(tiny_data, tmp_path / "out", optimizer=optimizer)
    assert "resuming" not in " ".join(run(tmp_path, plain, export=False))
    before = (tmp_path / "out" / LAST).stat().st_mtime_ns
    for steps in (2, 1):
        lines = run(tmp_path, plain, steps=steps, export=False)
        assert "nothing left to train" in lines[-1]
    assert (tmp_path / "out" / LAST).stat().st_mtime_ns == before
