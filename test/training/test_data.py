"""Reading frames and objects: what is found, and what is refused before training starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray
from tiny_run import TABLE, make_config, write_frames, write_pair
from toy_text import ToyEncoder

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.training.config import DataSet, Objects
from vl4ad_ros.training.cutouts import cut_out, load_cutouts
from vl4ad_ros.training.data import load_data
from vl4ad_ros.training.frames import find_pairs, read_frame

NOISE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
HALF_JPEG = (jpeg := cv2.imencode(".jpg", NOISE)[1].tobytes())[: len(jpeg) // 2]


def errors_of(tiny_data: Path, output: Path, **changes: Any) -> str:
    with pytest.raises(Vl4adError) as caught:
        load_data(make_config(tiny_data, output, **changes))
    return str(caught.value)


def one_set(root: Path | str, **fields: Any) -> list[dict[str, Any]]:
    return [{"name": "one", "root": str(root), "classes": TABLE, **fields}]


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
def test_cityscapes_layout_finds_pairs(tmp_path: Path, kind: str) -> None:
    for folder, suffix in (("leftImg8bit", "leftImg8bit"), ("gtFine", f"gtFine_{kind}"), ("gtFine", "gtFine_color")):
        (tmp_path / folder / "val/ulm").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / folder / f"val/ulm/ulm_000_{suffix}.png"), np.zeros((8, 8), np.uint8))
    data = DataSet(name="c", layout="cityscapes", root=Path(), split="val", labels=kind)  # type: ignore[arg-type]
    (pair,), lone = find_pairs(data, tmp_path)
    assert pair[1] == tmp_path / f"gtFine/val/ulm/ulm_000_gtFine_{kind}.png"
    assert pair[1].is_file()
    assert not lone


def test_unknown_labels_of_a_known_layout_are_listed(tmp_path: Path, tiny_data: Path) -> None:
    labels = np.zeros((64, 96), np.uint8)
    labels[0, :3] = 77, 78, 255
    write_pair(tmp_path / "train", "a", np.zeros((64, 96, 3), np.uint8), labels)
    sets = [{"name": "a", "layout": "camvid", "root": str(tmp_path)}]
    val = {"sets": [{"name": "val", "root": "val", "classes": {"0": "sky", "1": "road", "2": "car"}}]}
    found = errors_of(tiny_data, tmp_path, datasets=sets, validation=val, vocabulary="cityscapes", objects=None)
    assert found.startswith("1 data errors")
    assert "unknown label 77, 78 (" in found


def test_all_data_errors_are_listed_at_once(tmp_path: Path, tiny_data: Path) -> None:
    frames, objects = tmp_path / "frames", tmp_path / "things"
    write_frames(frames, 6)
    cv2.imwrite(str(frames / "labels/0.png"), np.zeros((10, 10), np.uint8))
    cv2.imwrite(str(frames / "labels/1.png"), np.full((64, 96), 77, np.uint8))
    (frames / "images/2.png").write_bytes(b"no picture")
    (frames / "labels/3.png").unlink()
    (frames / "images/4.png").write_bytes(HALF_JPEG)
    (objects / "crate").mkdir(parents=True)
    (objects / "crate/0.jpg").write_bytes(jpeg)
    (objects / "crate/1.jpg").write_bytes(HALF_JPEG)
    (objects / "sofa.jpg").write_bytes(b"")
    found = errors_of(tiny_data, tmp_path / "out", datasets=one_set(frames), objects={"roots": [str(objects)]})
    assert found.startswith("7 data errors; training has not started")
    for part in ("(10, 10)", "label 77", "images/2.png", "3.png does", "images/4.png", "crate/1.jpg", "sofa.jpg"):
        assert part in found
    assert not list(tmp_path.glob("out/cache/*")), "half a set of objects is not kept"


def test_labels_may_be_a_palette_s_indices_but_no_colours(tmp_path: Path) -> None:
    image, label = tmp_path / "a.png", tmp_path / "label.png"
    cv2.imwrite(str(image), np.zeros((64, 96, 3), np.uint8))
    values = np.zeros((64, 96), np.uint8)
    values[:, 50:] = 2
    palette = PIL.Image.fromarray(values, "P")
    palette.putpalette([70, 130, 180, 0, 0, 0, 128, 64, 128])
    palette.save(label)
    assert np.array_equal(read_frame((image, label), frozenset({0, 2}))[1], values)
    with pytest.raises(Vl4adError, match="unknown label 2 "):
        read_frame((image, label), frozenset({0}))
    palette.convert("RGB").save(label)
    with pytest.raises(Vl4adError, match=r"label\.png: a colour mask"):
        read_frame((image, label), frozenset({0, 2}))


def test_missing_folder_is_named(tmp_path: Path, tiny_data: Path) -> None:
    assert "nowhere/images does not exist" in errors_of(tiny_data, tmp_path, datasets=one_set("nowhere"))


def test_a_set_can_be_divided(tmp_path: Path, tiny_data: Path) -> None:
    parts = [*one_set("frames", part=[0, 0.75]), *one_set("frames", part=[0.75, 1])]
    first, second = load_data(make_config(tiny_data, tmp_path, datasets=parts, objects=None)).samples.sets
    assert (len(first), len(second)) == (3, 1)
    assert not any(np.array_equal(second.images[0], image) for image in first.images)


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    """Two apples and a wild boar, each a square in a picture."""
    for name in ("apple_1", "apple_2", "wild-boar_1"):
        picture, mask = np.full((40, 50, 3), 90, np.uint8), np.zeros((40, 50), np.uint8)
        picture[10:30, 20:45], mask[10:30, 20:45] = (220, 40, 20), 255
        write_pair(tmp_path / "masked", name, picture, mask)
    return tmp_path / "masked"


def test_objects_with_masks_are_cut_along_them_and_join_those_without(
    tmp_path: Path, tiny_data: Path, masked: Path
) -> None:
    objects = {"roots": ["objects"], "masked": [str(masked)], "held_out": ["wild-boar", "crate"]}
    data = load_data(make_config(tiny_data, tmp_path / "out", objects=objects))
    assert data.names == ("apple", "crate", "horse", "old tyre", "red ball", "wild boar")
    assert [data.names[index] for index in data.train_names] == ["apple", "horse", "old tyre", "red ball"]
    assert data.test_paster is not None
    cutouts = data.test_paster.cutouts
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
    data = load_data(make_config(tiny_data, tmp_path, objects=objects), encoder=Near())
    assert [data.names[index] for index in data.train_names] == ["horse", "old tyre"]
    assert data.test_paster is not None
    assert data.test_paster.allowed.tolist() == [0]


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ({"roots": ["objects"], "held_out": ["tapir"]}, "no object named 'tapir'"),
        ({"roots": ["objects"], "exclude": ["red ball", "crate", "horse", "old tyre"]}, "'exclude' leaves no name"),
        ({"roots": ["nowhere"]}, "nowhere: no named pictures"),
        ({"masked": ["objects"]}, "objects: no cut-outs"),
        ({"roots": ["objects"], "textures": ["nowhere"]}, "no pictures in .*nowhere"),
    ],
)
def test_wrong_objects_are_explained(tmp_path: Path, tiny_data: Path, objects: dict[str, Any], message: str) -> None:
    with pytest.raises(Vl4adError, match=message):
        load_data(make_config(tiny_data, tmp_path, objects=objects))


def test_a_lost_mask_is_named(tmp_path: Path, tiny_data: Path, masked: Path) -> None:
    (masked / "labels/apple_2.png").unlink()
    objects = {"masked": [str(masked)], "held_out": ["apple"]}
    assert "apple_2.png" in errors_of(tiny_data, tmp_path / "out", objects=objects)


def test_cut_out_finds_the_thing() -> None:
    picture = np.full((80, 100, 3), 220, np.uint8)
    picture[20:60, 30:70] = (30, 90, 200)
    result = cut_out(picture, 160)
    assert np.abs(np.array(result.shape[:2]) - 40).max() <= 4
    assert (result[..., 3] > 128).mean() > 0.9


def test_a_damaged_cache_of_cut_outs_is_made_again(tmp_path: Path, tiny_data: Path) -> None:
    objects = Objects(roots=[Path("objects")], longest=32)
    first, _ = load_cutouts(objects, tiny_data, tmp_path, 0)
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", whole[: len(whole) // 2] + bytes(len(whole) // 2), whole):
        kept.write_bytes(damage)
        again, _ = load_cutouts(objects, tiny_data, tmp_path, 0)
        assert again.names == first.names
        assert all(np.array_equal(a, b) for a, b in zip(again.pictures, first.pictures, strict=True))
        assert kept.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [kept], "nothing else is left behind"
