"""What a run's file may say, and what its labels mean."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tiny_run import plain_config

from vl4ad_ros.io.checked import read_yaml
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.resources import config_file
from vl4ad_ros.training.config import DataSet, load_config
from vl4ad_ros.training.label_tables import IGNORE, make_label_table


def write_yaml(folder: Path, plain: dict[str, object]) -> Path:
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


def data_set(**fields: object) -> DataSet:
    return DataSet.model_validate({"name": "a", "root": ".", **fields})


@pytest.mark.parametrize("name", sorted(p.name for p in config_file("train/vl4ad-small.yaml").parent.glob("*-*.yaml")))
def test_shipped_configurations_are_valid(name: str) -> None:
    assert load_config(config_file(f"train/{name}")).optimizer.steps > 0


def test_base_is_merged_key_by_key_and_its_lists_replaced(tmp_path: Path, tiny_data: Path) -> None:
    write_yaml(tmp_path, plain_config(tiny_data, tmp_path))
    (tmp_path / "sub").mkdir()
    derived = {"base": "../run.yaml", "seed": 9, "losses": {"names": 0.0}, "crop": [96, 64]}
    config = load_config(write_yaml(tmp_path / "sub", derived))
    before = load_config(tmp_path / "run.yaml")
    assert (config.seed, config.crop, config.losses.names) == (9, (96, 64), 0.0)
    assert config.model_copy(update={"seed": before.seed, "crop": before.crop, "losses": before.losses}) == before


@pytest.mark.parametrize(
    ("base", "message"),
    [("run.yaml", "leads back"), ("none.yaml", r"none\.yaml: cannot be read"), (3, "expected the name")],
)
def test_wrong_base_is_explained(tmp_path: Path, base: object, message: str) -> None:
    with pytest.raises(Vl4adError, match=message):
        load_config(write_yaml(tmp_path, {"base": base}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": {"steps": 5, "warmup": 0, "cooldown": 0, "wieght_decay": 0.1}}, "wieght_decay.*'weight_decay'"),
        ({"crop": [60, 96]}, "multiples of 32"),
        ({"optimizer": {"steps": 5, "warmup": 4, "cooldown": 4}}, "longer than steps"),
        ({"datasets": [{"name": "a", "root": "frames"}]}, "needs 'classes'"),
        ({"datasets": [{"name": "a", "root": "frames", "layout": "camvid", "scale": [2, 1]}]}, "scale.*two numbers"),
        ({"datasets": [{"name": "a", "root": "frames", "layout": "camvid", "part": [0, 2]}]}, "part.*two numbers"),
        ({"datasets": [{"name": "a", "root": "frames", "classes": {"x": "road"}}]}, "label value 'x'"),
        ({"datasets": [{"name": "a", "root": "frames", "classes": {"00": "road"}}]}, "label value '00'"),
        ({"datasets": [{"name": "a", "root": "frames", "classes": {256: "road"}}]}, "label value '256'"),
        ({"objects": {"textures": ["a"]}}, "at least one folder"),
    ],
)
def test_wrong_values_are_explained(tmp_path: Path, tiny_data: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(Vl4adError, match=rf"run\.yaml.*{message}"):
        load_config(write_yaml(tmp_path, plain_config(tiny_data, tmp_path, **change)))


def test_label_values_need_no_quotes(tmp_path: Path, tiny_data: Path) -> None:
    plain = plain_config(tiny_data, tmp_path)
    plain["datasets"] = [{"name": "a", "root": "frames", "classes": {0: "sky", 12: ["car", "bus"]}}]
    assert load_config(write_yaml(tmp_path, plain)).datasets[0].label_classes() == {0: ("sky",), 12: ("car", "bus")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{0: a, '0': b}", "duplicate name '0'"),
        ("{012: a}", "key 10 is not text"),
        ("{1:30: a}", "key 90 is not text"),
    ],
)
def test_keys_that_yaml_reads_in_its_own_way_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(Vl4adError, match=message):
        read_yaml(path)


def test_label_table_joins_sets_and_unions() -> None:
    sets = [data_set(classes={"0": "sky", "1": ["car", "bus"]}), data_set(classes={"5": ["bus", "car"], "6": "road"})]
    table = make_label_table(("road", "sky", "car", "bus"), sets)
    union, road = int(table.lookup[0][1]), int(table.lookup[1][6])
    assert table.lookup[1][5] == union, "the same union is the same row"
    assert table.rows[union].tolist() == [False, False, True, True]
    assert table.lookup[0][7] == IGNORE
    assert not table.rows[table.void].any()
    assert table.rows_of_set(1) == [union, road]
    assert table.rows_within(["road", "car"]) == (road,)
    assert table.single_rows().tolist() == [road, table.lookup[0][0], IGNORE, IGNORE]
    with pytest.raises(Vl4adError, match="unknown class 'lane'"):
        make_label_table(("road",), [data_set(classes={"0": "lane"})])


@pytest.mark.parametrize(
    ("layout", "labels", "road", "known"),
    [
        ("camvid", "labelIds", 3, {*range(12), 255}),
        ("cityscapes", "labelIds", 7, {*range(34), 255}),
        ("cityscapes", "trainIds", 0, {*range(19), 255}),
    ],
)
def test_known_layouts_know_their_labels_and_no_others(layout: str, labels: str, road: int, known: set[int]) -> None:
    data = data_set(layout=layout, labels=labels)
    assert set(data.label_classes()) | data.ignored_labels() == known
    assert not set(data.label_classes()) & data.ignored_labels()
    assert data.label_classes()[road] == ("road",)
    assert data.model_copy(update={"ignore": [77]}).ignored_labels() == data.ignored_labels() | {77}
