from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import yaml
from numpy.typing import NDArray
from tiny_run import TABLE, make_config, plain_config, write_frames
from toy_text import ToyEncoder

from vl4ad_ros.io.checked import read_yaml
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.resources import config_file
from vl4ad_ros.training.config import DataSet, load_config
from vl4ad_ros.training.data import ignored, load_data, table_of
from vl4ad_ros.training.frames import FramePair, find_pairs, lone_labels, read_frame
from vl4ad_ros.training.label_tables import IGNORE, built_in_table, make_label_table


def write_yaml(folder: Path, plain: dict[str, object]) -> Path:
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


@pytest.mark.parametrize("name", sorted(p.name for p in config_file("train/vl4ad-small.yaml").parent.glob("*-*.yaml")))
def test_shipped_configurations_are_valid(name: str) -> None:
    assert load_config(config_file(f"train/{name}")).optimizer.steps > 0


def test_wrong_key_names_the_near_one(tmp_path: Path, tiny_data: Path) -> None:
    plain = plain_config(tiny_data, tmp_path)
    plain["optimizer"] = {"steps": 5, "warmup": 0, "cooldown": 0, "wieght_decay": 0.1}
    with pytest.raises(Vl4adError, match=r"run\.yaml.*wieght_decay.*'weight_decay'"):
        load_config(write_yaml(tmp_path, plain))


def test_base_is_merged_key_by_key_and_its_lists_replaced(tmp_path: Path, tiny_data: Path) -> None:
    plain = plain_config(tiny_data, tmp_path)
    (tmp_path / "sub").mkdir()
    write_yaml(tmp_path, plain)
    derived = {"base": "../run.yaml", "seed": 9, "losses": {"names": 0.0}, "crop": [96, 64]}
    config = load_config(write_yaml(tmp_path / "sub", derived))
    before = load_config(tmp_path / "run.yaml")
    assert (config.seed, config.crop, config.losses.names) == (9, (96, 64), 0.0)
    assert config.model_copy(update={"seed": before.seed, "crop": before.crop, "losses": before.losses}) == before


@pytest.mark.parametrize(
    ("base", "said"),
    [("run.yaml", "leads back"), ("none.yaml", r"none\.yaml: cannot be read"), (3, "expected the name of a YAML file")],
)
def test_wrong_base_is_explained(tmp_path: Path, base: object, said: str) -> None:
    with pytest.raises(Vl4adError, match=said):
        load_config(write_yaml(tmp_path, {"base": base}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"crop": [60, 96]}, "multiples of 32"),
        ({"optimizer": {"steps": 5, "warmup": 4, "cooldown": 4}}, "longer than steps"),
        ({"datasets": [{"name": "a", "root": "frames"}]}, "needs 'classes'"),
        ({"datasets": [{"name": "a", "root": "frames", "classes": {"x": "road"}}]}, "label value 'x'"),
        ({"datasets": [{"name": "a", "root": "frames", "classes": {"00": "road"}}]}, "label value '00'"),
        ({"datasets": [{"name": "a", "root": "frames", "classes": {256: "road"}}]}, "label value '256'"),
    ],
)
def test_wrong_values_are_explained(tmp_path: Path, tiny_data: Path, change: dict[str, object], said: str) -> None:
    with pytest.raises(Vl4adError, match=said):
        load_config(write_yaml(tmp_path, plain_config(tiny_data, tmp_path, **change)))


def test_label_values_need_no_quotes(tmp_path: Path, tiny_data: Path) -> None:
    plain = plain_config(tiny_data, tmp_path)
    plain["datasets"] = [{"name": "a", "root": "frames", "classes": {0: "sky", 12: ["car", "bus"]}}]
    path = write_yaml(tmp_path, plain)
    assert "12:" in path.read_text()
    assert load_config(path).datasets[0].classes == {"0": "sky", "12": ["car", "bus"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{0: a, '0': b}", "duplicate name '0'"),
        ("{012: a}", "key 10 is not text"),
        ("{1:30: a}", "key 90 is not text"),
        ("{-1: a}", "key -1 is not text"),
        ("{1.5: a}", "key 1.5 is not text"),
        ("{true: a}", "key True is not text"),
    ],
)
def test_keys_that_yaml_reads_in_its_own_way_are_still_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(Vl4adError, match=said):
        read_yaml(path)


def test_label_table_joins_sets_and_unions() -> None:
    table = make_label_table(
        ("road", "sky", "car", "bus"),
        [
            ("a", {0: ("sky",), 1: ("car", "bus")}, frozenset({255})),
            ("b", {5: ("bus", "car"), 6: ("road",)}, frozenset()),
        ],
    )
    assert table.lookup[0][1] == table.lookup[1][5], "the same union is the same row"
    assert table.rows[table.lookup[0][1]].tolist() == [False, False, True, True]
    assert table.lookup[1][6] != table.lookup[0][0]
    assert table.lookup[0][7] == IGNORE
    assert not table.rows[table.void].any()
    with pytest.raises(Vl4adError, match="unknown class 'lane'"):
        make_label_table(("road",), [("a", {0: ("lane",)}, frozenset())])


def test_cityscapes_tables_agree() -> None:
    ids, train_ids = built_in_table("cityscapes", "labelIds"), built_in_table("cityscapes", "labelTrainIds")
    assert ids[7] == train_ids[0] == ("road",)
    assert ids[33] == train_ids[18] == ("bicycle",)
    assert len(ids) == len(train_ids) == 19


@pytest.mark.parametrize(
    ("layout", "labels", "known"),
    [
        ("camvid", "labelIds", {*range(12), 255}),
        ("cityscapes", "labelIds", {*range(34), 255}),
        ("cityscapes", "trainIds", {*range(19), 255}),
    ],
)
def test_known_layouts_know_their_labels_and_no_others(layout: str, labels: str, known: set[int]) -> None:
    data = DataSet.model_validate({"name": "a", "layout": layout, "root": ".", "labels": labels})
    assert set(table_of(data)) | ignored(data) == known
    assert not set(table_of(data)) & ignored(data)
    assert ignored(data.model_copy(update={"ignore": [77]})) == ignored(data) | {77}


@pytest.mark.parametrize("layout", ["camvid", "cityscapes"])
def test_unknown_labels_of_known_layouts_are_listed(tmp_path: Path, tiny_data: Path, layout: str) -> None:
    folders = {
        "camvid": ("train/images/a.png", "train/labels/a.png"),
        "cityscapes": ("leftImg8bit/train/ulm/a_leftImg8bit.png", "gtFine/train/ulm/a_gtFine_labelTrainIds.png"),
    }
    labels = np.zeros((64, 96), np.uint8)
    labels[0, :3] = 77, 78, 255
    for name, content in zip(folders[layout], (np.zeros((64, 96, 3), np.uint8), labels), strict=True):
        (tmp_path / name).parent.mkdir(parents=True)
        cv2.imwrite(str(tmp_path / name), content)
    sets = [{"name": "a", "layout": layout, "root": str(tmp_path), "labels": "trainIds"}]
    config = make_config(tiny_data, tmp_path / "out", datasets=sets, vocabulary="cityscapes", objects=None)
    val = [{"name": "val", "root": "val", "classes": {"0": "sky", "1": "road", "2": "car"}}]
    config = config.model_copy(update={"validation": config.validation.model_validate({"sets": val})})
    with pytest.raises(Vl4adError, match=r"1 data errors;[^?]*\.png: unknown label 77, 78 \(neither"):
        load_data(config)


def test_cityscapes_layout_finds_pairs(tmp_path: Path) -> None:
    for kind, suffix in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelTrainIds")):
        folder = tmp_path / kind / "val" / "ulm"
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / f"ulm_000_{suffix}.png"), np.zeros((8, 8), np.uint8))
    data = DataSet(name="c", layout="cityscapes", root=Path(), split="val", labels="labelTrainIds")
    (pair,) = find_pairs(data, tmp_path)
    assert pair.label == tmp_path / "gtFine/val/ulm/ulm_000_gtFine_labelTrainIds.png"
    assert pair.label.is_file()


def test_all_data_errors_are_listed_at_once(tmp_path: Path, tiny_data: Path) -> None:
    root = tmp_path / "frames"
    write_frames(root, 5)
    cv2.imwrite(str(root / "labels/0.png"), np.zeros((10, 10), np.uint8))
    cv2.imwrite(str(root / "labels/1.png"), np.full((64, 96), 77, np.uint8))
    (root / "images/2.png").write_bytes(b"no picture")
    (root / "labels/3.png").unlink()
    sets = [{"name": "broken", "root": str(root), "classes": {"0": "sky", "1": "road", "2": "car"}}]
    with pytest.raises(Vl4adError) as caught:
        load_data(make_config(tiny_data, tmp_path / "out", datasets=sets))
    said = str(caught.value)
    assert said.startswith("4 data errors; training has not started")
    for part in ("size (10, 10)", "unknown label 77", "2.png: not a picture", "3.png does not exist"):
        assert part in said


def test_half_pictures_and_unreadable_objects_are_listed(tmp_path: Path, tiny_data: Path) -> None:
    root = tmp_path / "frames"
    write_frames(root, 2)
    jpeg = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8))[1].tobytes()
    (root / "images/0.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (root / "images/0.png").unlink()
    (tmp_path / "things/crate").mkdir(parents=True)
    (tmp_path / "things/crate/0.jpg").write_bytes(jpeg)
    (tmp_path / "things/crate/1.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (tmp_path / "things/sofa.jpg").write_bytes(b"")
    config = make_config(
        tiny_data,
        tmp_path / "out",
        datasets=[{"name": "half", "root": str(root), "classes": TABLE}],
        objects={"roots": [str(tmp_path / "things")]},
    )
    with pytest.raises(Vl4adError) as caught:
        load_data(config)
    said = str(caught.value)
    assert said.startswith("3 data errors")
    for part in ("images/0.jpg", "crate/1.jpg", "things/sofa.jpg is no image that can be read (0 bytes)"):
        assert part in said
    assert not list(tmp_path.glob("out/cache/*")), "half a set of objects is not kept"


def test_labels_may_be_a_palette_s_indices_but_no_colours(tmp_path: Path) -> None:
    image, label = tmp_path / "a.png", tmp_path / "label.png"
    cv2.imwrite(str(image), np.zeros((64, 96, 3), np.uint8))
    values = np.zeros((64, 96), np.uint8)
    values[:, 50:] = 2
    palette = PIL.Image.fromarray(values, "P")
    palette.putpalette([70, 130, 180, 0, 0, 0, 128, 64, 128])
    palette.save(label)
    assert np.array_equal(read_frame(FramePair(image, label), frozenset({0, 2}))[1], values)
    with pytest.raises(Vl4adError, match="unknown label 2 "):
        read_frame(FramePair(image, label), frozenset({0}))
    palette.convert("RGB").save(label)
    with pytest.raises(Vl4adError, match=r"label\.png: a colour mask"):
        read_frame(FramePair(image, label), frozenset({0, 2}))


def test_labels_without_a_picture_are_found(tmp_path: Path, tiny_data: Path) -> None:
    root = tmp_path / "frames"
    write_frames(root, 3)
    (root / "images/1.png").unlink()
    data = DataSet(name="a", root=root, classes={"0": "sky"})
    assert lone_labels(data, tmp_path) == [root / "labels/1.png"]


def test_missing_folder_is_named(tmp_path: Path, tiny_data: Path) -> None:
    sets = [{"name": "gone", "root": "nowhere", "classes": {"0": "sky"}}]
    with pytest.raises(Vl4adError, match=r"'gone': the folder .*nowhere/images does not exist"):
        load_data(make_config(tiny_data, tmp_path, datasets=sets))


def test_a_set_can_be_divided(tmp_path: Path, tiny_data: Path) -> None:
    parts = [
        {"name": n, "root": "frames", "classes": TABLE, "part": p} for n, p in (("a", [0, 0.75]), ("b", [0.75, 1]))
    ]
    first, second = load_data(make_config(tiny_data, tmp_path, datasets=parts, objects=None)).maker.sets
    assert (len(first), len(second)) == (3, 1)
    assert not any(np.array_equal(second.images[0], image) for image in first.images)


def masked_objects(root: Path) -> None:
    """Two apples and a wild boar, each a square in a picture."""
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for name in ("apple_1", "apple_2", "wild-boar_1"):
        picture, mask = np.full((40, 50, 3), 90, np.uint8), np.zeros((40, 50), np.uint8)
        picture[10:30, 20:45], mask[10:30, 20:45] = (20, 40, 220), 255
        cv2.imwrite(str(root / "images" / f"{name}.png"), picture)
        cv2.imwrite(str(root / "labels" / f"{name}.png"), mask)


def test_objects_with_masks_are_cut_along_them_and_join_those_without(tmp_path: Path, tiny_data: Path) -> None:
    masked_objects(tmp_path / "masked")
    objects = {"roots": ["objects"], "masked": [str(tmp_path / "masked")], "held_out": ["wild-boar", "crate"]}
    data = load_data(make_config(tiny_data, tmp_path / "out", objects=objects))
    assert data.names == ("apple", "crate", "horse", "old tyre", "red ball", "wild boar")
    assert [data.names[index] for index in data.train_names] == ["apple", "horse", "old tyre", "red ball"]
    assert data.test_paster is not None
    cutouts = data.test_paster.things.cutouts
    (boar,) = (cutouts.pictures[index] for index in cutouts.of_class(5))
    assert boar.shape == (20, 25, 4)
    assert (boar == (220, 40, 20, 255)).all()


def test_names_near_a_held_out_one_are_not_trained_on(tmp_path: Path, tiny_data: Path) -> None:
    class Near(ToyEncoder):
        """Crates and balls are nearly the same."""

        def encode(self, texts: list[str]) -> NDArray[np.float32]:
            rows = np.eye(self.dim, dtype=np.float32)[[len(text) for text in texts]]
            rows[[text in ("crate", "red ball") for text in texts]] = np.eye(self.dim, dtype=np.float32)[0]
            return rows

    objects = {"roots": ["objects"], "held_out": ["crate"], "near": 0.9}
    config = make_config(tiny_data, tmp_path, objects=objects)
    data = load_data(config, encoder=Near())
    assert [data.names[index] for index in data.train_names] == ["horse", "old tyre"]
    assert data.test_paster is not None
    assert data.test_paster.things.allowed.tolist() == [0]


def test_an_unknown_held_out_name_and_a_lost_mask_are_named(tmp_path: Path, tiny_data: Path) -> None:
    masked_objects(tmp_path / "masked")
    (tmp_path / "masked/labels/apple_2.png").unlink()
    objects = {"masked": [str(tmp_path / "masked")], "held_out": ["apple"]}
    with pytest.raises(Vl4adError, match=r"1 data errors[^?]*apple_2\.png"):
        load_data(make_config(tiny_data, tmp_path / "out", objects=objects))
    with pytest.raises(Vl4adError, match="no object named 'tapir'"):
        load_data(make_config(tiny_data, tmp_path / "out", objects={"roots": ["objects"], "held_out": ["tapir"]}))
