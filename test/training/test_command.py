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
from vl4ad_ros.training.checkpoint import LAST
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
    """A run without objects, whose cut-outs take a while."""
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
    ("changes", "said"),
    [
        ({"prompt_sets": ["nope"]}, "There is no prompt set 'nope'"),
        ({"default_prompt_set": "vocabulary"}, r"default_prompt_set: expected one of \['tiny'\], got 'vocabulary'"),
        ({"prompt_sets": ["cityscapes", "cityscapes"]}, "two sets have the name 'cityscapes'"),
        ({"name": ""}, "export.name"),
        ({"test": [{"name": "t", "root": "nowhere", "classes": TABLE}]}, "'t': the folder .*nowhere.* does not exist"),
        ({"test": [{"name": "t", "root": "val", "classes": {"0": "moon"}}]}, "'t' maps label 0 to the unknown class"),
        ({"test": [{"name": "t", "root": "val", "classes": {"0": "sky"}}]}, "2 data errors;[^?]*unknown label 1, 2"),
    ],
)
def test_what_the_export_lacks_is_found_before_training(
    tmp_path: Path, tiny_data: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(Vl4adError, match=said):
        run(tmp_path, with_export(tiny_data, tmp_path / "out", **changes), check_only=True)


def test_a_prompt_set_that_the_graph_cannot_hold_is_found_before_training(tmp_path: Path, tiny_data: Path) -> None:
    large = {"name": "large", "classes": {"road": [f"road {index}" for index in range(25)]}}
    (tmp_path / "large.yaml").write_text(yaml.safe_dump(large))
    plain = with_export(tiny_data, tmp_path, prompt_sets=[str(tmp_path / "large.yaml")], default_prompt_set="large")
    with pytest.raises(Vl4adError, match="'large' has 25 concepts in one class, but the model takes at most 24"):
        run(tmp_path, plain, check_only=True)
    assert run(tmp_path, plain, check_only=True, export=False)[-1] == "configuration and data are in order"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"network": "nope"}, "There is no network 'nope'"),
        ({"network": "vl4ad-l"}, "embeddings of 768 numbers, the text encoder 384"),
        ({"network": "vl4ad-tiny", "backbone": "none.safetensors"}, "there is no file none.safetensors"),
        ({"network": "vl4ad-lite", "backbone": "none.safetensors"}, "only CLIP's towers"),
        ({"network": "small", "backbone": "none.safetensors"}, "'small' has no CLIP tower"),
        ({"network": "vl4ad-tiny"}, r"several classes \(bus, car\)"),
    ],
)
def test_a_wrong_network_is_found_by_the_check(
    tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch, model: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(command, "create_encoder", lambda *_: WideToy())
    with pytest.raises(Vl4adError, match=said):
        run(tmp_path, small(tiny_data, tmp_path, model=model), check_only=True)


def test_a_mask_network_s_input_has_its_strides(
    tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "create_encoder", lambda *_: WideToy())
    plain = {**with_export(tiny_data, tmp_path, height=70), "model": {"network": "vl4ad-tiny"}}
    with pytest.raises(Vl4adError, match="multiples of 32, got 70 x 96"):
        run(tmp_path, plain, check_only=True)


def test_labels_without_a_picture_are_worth_a_note(tmp_path: Path, tiny_data: Path) -> None:
    root = tmp_path / "frames"
    write_frames(root, 3)
    (root / "images/1.png").unlink()
    sets = [{"name": "lone", "root": str(root), "classes": TABLE}]
    lines = run(tmp_path, small(tiny_data, tmp_path, datasets=sets), check_only=True)
    assert f"note: 1 label maps of lone have no picture, the first is {root / 'labels/1.png'}" in lines


def test_fewer_samples_than_processes_are_refused(
    tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "join_group", lambda: Group(0, 3))
    with pytest.raises(Vl4adError, match="batch: 3 processes need at least one sample each, got 2"):
        run(tmp_path, small(tiny_data, tmp_path))


def test_only_the_first_process_writes(tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks: list[tuple[int, bool]] = []

    class Stub(Trainer):
        def __post_init__(self) -> None:
            self.step = 0

        def run(self) -> None:
            ranks.append((self.group.rank, self.listener is not None))
            if self.listener is not None:
                self.listener(10, {"loss": 1.0})

    monkeypatch.setattr(command, "Trainer", Stub)
    for rank in (1, 0):
        monkeypatch.setattr(command, "join_group", lambda rank=rank: Group(rank, 2))
        said = run(tmp_path, small(tiny_data, tmp_path / "out"), export=False)
        assert bool(said) == (rank == 0)
        assert (tmp_path / "out").exists() == (rank == 0)
    assert ranks == [(1, False), (0, True)]
    assert {CURVE_FILE, CURVE_PICTURE, "tensorboard"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_a_finished_run_is_said_to_be_finished(tmp_path: Path, tiny_data: Path) -> None:
    optimizer = {"steps": 2, "warmup": 0, "cooldown": 0}
    plain = small(tiny_data, tmp_path / "out", optimizer=optimizer)
    assert "resuming" not in " ".join(run(tmp_path, plain, export=False))
    before = (tmp_path / "out" / LAST).stat().st_mtime_ns
    for steps in (2, 1):
        lines = run(tmp_path, plain, steps=steps, export=False)
        assert lines[-1] == f"nothing left to train: 2 steps are done, and {steps} are asked for"
    assert (tmp_path / "out" / LAST).stat().st_mtime_ns == before
