"""Files made to break a reader: each ends in one sentence that names it, soon and in little memory."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bombs import PICTURE, bmp_of, encoded, jpeg_of_scans, png_of

from vl4ad_ros.cli.main import main
from vl4ad_ros.evaluation.layouts import find_pairs, folder_layout
from vl4ad_ros.io.checked import read_json, read_yaml
from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import read_bytes, read_npy, read_npz, sha256_file
from vl4ad_ros.io.images import decode_compressed
from vl4ad_ros.io.labels import LabelMapping, read_label_values
from vl4ad_ros.io.media import Video, find_inputs, read_picture
from vl4ad_ros.io.onnx_files import external_data
from vl4ad_ros.runtime.frames import RoiMask
from vl4ad_ros.runtime.tensor_files import load_tensors

Reader = Callable[[Path], Any]


def safetensors(header: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header


def tensors(path: Path) -> Any:
    return load_tensors(path, "vl4ad_ros.prompts/1", "prompt set", "vl4ad prompts compile")


def roi(path: Path) -> Any:
    return RoiMask(str(path))


def topic(path: Path) -> Any:
    return decode_compressed("jpeg", path.read_bytes())


DEEP = b"[" * 100_000
DIGITS = b'{"a": ' + b"9" * 5000 + b"}"
BFLOAT16 = b'{"__metadata__": {"vl4ad": "{}"}, "a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}'
META = b'{"__metadata__": {"vl4ad": "' + DEEP + b'"}}'
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n"


@pytest.mark.filterwarnings("ignore:Image size")  # Pillow's own word on it
@pytest.mark.parametrize(
    ("content", "reader", "keyword"),
    [
        (png_of(30_000, 30_000), read_picture, "large"),
        (png_of(30_000, 30_000), read_label_values, "large"),
        (png_of(30_000, 30_000), roi, "large"),
        (png_of(30_000, 30_000), topic, "large"),
        (png_of(10_000, 9_000), read_picture, "large"),
        (png_of(2**31 - 1, 2**31 - 1), read_picture, ""),
        (bmp_of(30_000, 30_000), read_picture, "large"),
        (jpeg_of_scans(65), read_picture, "scans"),
        (jpeg_of_scans(65), topic, "scans"),
        (EPS, read_label_values, "not a picture"),
        (EPS, read_picture, "not a picture"),
        (b"", read_picture, "not a picture"),
        (b"", read_label_values, "not a picture"),
        (encoded(".webp"), topic, "JPEG or PNG"),
        (encoded(".bmp"), topic, "JPEG or PNG"),
        (encoded(".tiff"), topic, "JPEG or PNG"),
        (DEEP, read_yaml, "nested"),
        (DEEP, read_json, "nested"),
        (DIGITS, read_yaml, "digits"),
        (DIGITS, read_json, "digits"),
        (b"a: !!bool x", read_yaml, "not valid YAML"),
        (b"a: 2026-13-45", read_yaml, "not valid YAML"),
        (b"a: \xe9", read_yaml, "YAML"),
        (safetensors(META), tensors, "prompt set"),
        (safetensors(BFLOAT16) + bytes(4), tensors, "prompt set"),
        (safetensors(b"{}", 2**63), tensors, "header"),
        (safetensors(b"{}", 99 << 20), tensors, "header"),
        (safetensors(DEEP), tensors, "prompt set"),
        (b"", tensors, "prompt set"),
    ],
)
def test_a_hostile_file_is_refused(content: bytes, reader: Reader, keyword: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(Vl4adError) as caught:
        reader(path)
    assert keyword in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert reader is topic or str(path) in str(caught.value)


@pytest.mark.parametrize(
    "reader",
    [
        read_picture, read_label_values, roi, read_yaml, read_json, tensors, read_bytes, read_npy, read_npz,
        sha256_file, external_data, Video,
    ],
)  # fmt: skip
def test_nothing_is_read_from_a_pipe(reader: Reader, tmp_path: Path) -> None:
    for suffix in (".png", ".avi"):
        path = tmp_path / f"pipe{suffix}"
        os.mkfifo(path)
        with pytest.raises(Vl4adError, match="regular"):
            reader(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff", ".webp", ".ppm"])
def test_what_is_usual_is_still_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(encoded(suffix))
    assert read_picture(path).shape == PICTURE.shape
    progressive = cv2.imencode(".jpg", PICTURE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert decode_compressed("jpeg", progressive).shape == PICTURE.shape


def latin_1(folder: Path, suffix: str) -> None:
    """Give a picture or video a name that is no UTF-8."""
    Path(os.fsdecode(os.fsencode(folder) + b"/latin_\xe9" + suffix.encode())).write_bytes(encoded(".png"))


@pytest.mark.parametrize(
    ("make", "status", "keyword"),
    [
        (lambda folder: (folder / "film.mp4").write_bytes(b"no film"), 2, "film.mp4"),
        (lambda folder: latin_1(folder, ".avi"), 2, "latin_"),
        (lambda folder: latin_1(folder, ".png"), 0, ""),
        (lambda folder: (folder / f"{'x' * 240}.png").write_bytes(encoded(".png")), 2, "xxx"),
        (lambda folder: (folder / "bomb.png").write_bytes(png_of(30_000, 30_000)), 2, "bomb.png"),
        (lambda folder: os.mkfifo(folder / "pipe.png"), 2, "pipe.png"),
        (lambda folder: os.mkfifo(folder / "pipe.avi"), 2, "pipe.avi"),
        (lambda folder: (folder / "folder.png").mkdir(), 2, "folder.png"),
        (lambda folder: (folder / "nowhere.png").symlink_to("nothing"), 2, "nowhere.png"),
        (lambda folder: cv2.imwrite(str(folder / "slit.png"), np.zeros((8, 70_000, 3), np.uint8)), 2, "slit.png"),
    ],
)
def test_one_bad_file_does_not_end_the_others(
    make: Callable[[Path], Any], status: int, keyword: str, mock_bundle: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.png", "z.png"):
        (folder / name).write_bytes(encoded(".png"))
    make(folder)
    assert main(["detect", str(folder), "--out", str(out), "--bundle", str(mock_bundle)]) == status
    result = json.loads((out / "result.json").read_text())
    assert [keyword in fault for fault in result["faults"]] == [True] * bool(status)
    stems = [entry["stem"] for entry in result["pictures"]]
    assert {"a", "z"} <= set(stems)
    assert len(stems) == 3 - bool(status)
    assert all((out / entry["files"]["mask"]).is_file() for entry in result["pictures"])


@pytest.mark.parametrize(
    "names",
    [
        ("v_000000.png", "v.avi"),
        ("v.avi", "v_000000.png"),
        ("v.avi", "v_000001.jpg", "v.mp4", "v_2_000000.png"),
        ("a.png", "a.jpg", "a_2.png"),
    ],
)
def test_results_of_two_inputs_have_no_name_in_common(names: tuple[str, ...], tmp_path: Path) -> None:
    paths = [tmp_path / name for name in names]
    for path in paths:
        if path.suffix in (".png", ".jpg"):
            path.write_bytes(encoded(path.suffix))
        else:
            writer = cv2.VideoWriter(str(tmp_path / "film.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (48, 32))
            for _ in range(2):
                writer.write(PICTURE)
            writer.release()
            (tmp_path / "film.avi").rename(path)
    stems = [picture.stem for entry in find_inputs(paths) for picture in entry.pictures()]
    assert len(set(stems)) == len(stems) == len(names) + sum(name.endswith(("avi", "mp4")) for name in names)


def test_linked_folders_of_a_data_set_are_followed_but_no_loop(tmp_path: Path) -> None:
    root, kept = tmp_path / "root", tmp_path / "kept"
    for folder in ("images", "labels"):
        (kept / folder).mkdir(parents=True)
        (kept / folder / "a.png").write_bytes(encoded(".png"))
        root.mkdir(exist_ok=True)
        (root / folder).symlink_to(kept / folder)
        (kept / folder / "loop").symlink_to(root)
    pairs, problems = find_pairs(root, folder_layout(LabelMapping(frozenset({1})), "anomaly"))
    assert (pairs, problems) == ([("a", root / "images/a.png", root / "labels/a.png")], [])
