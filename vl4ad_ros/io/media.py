"""Pictures and videos in; maps and pictures out."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vl4ad_ros.io.errors import Vl4adError
from vl4ad_ros.io.files import check_regular, read_bytes, write_bytes
from vl4ad_ros.io.picture_header import picture_size

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
INPUTS = (*PICTURES, *VIDEOS)
ENDINGS = (".uncertainty.npy", ".uncertainty.png", ".mask.png", ".overlay.jpg")  # of the files of results
# Some containers state a duration only, from which OpenCV reckons the number of frames.
MISSING_FRAMES, MISSING_SHARE = 2, 0.02


def read_picture(path: Path, as_stored: bool = False) -> NDArray[np.uint8]:
    """Read a picture by its content as RGB uint8 [H, W, 3]; 16 bits are scaled to 8, transparency is dropped.

    `as_stored` leaves the EXIF orientation alone: labels are drawn on the pixels as they are stored.
    """
    data = read_bytes(path)
    try:
        picture_size(data)
    except Vl4adError as error:
        raise Vl4adError(f"{path}: {error}.") from error
    mode = cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if as_stored else 0)
    # From memory: OpenCV's own reading does not tell a missing file from a broken one.
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    if pixels is None:
        raise Vl4adError(f"{path}: not a picture, or damaged ({len(data)} bytes).")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def encode_jpeg(image: NDArray[np.uint8], quality: int = 90) -> bytes:
    """Return an RGB image uint8 [H, W, 3] as JPEG; one with a side of more than 65500 is an error."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise Vl4adError(f"A JPEG cannot be {image.shape[1]}x{image.shape[0]}.")
    return data.tobytes()


def encode_png(pixels: NDArray[Any]) -> bytes:
    """Return a grey image uint8 or uint16 [H, W] as PNG."""
    _, data = cv2.imencode(".png", pixels)
    return data.tobytes()


class Video(AbstractContextManager["Video"]):
    """A video open for reading; use it in a `with` statement."""

    def __init__(self, path: Path) -> None:
        """Open the video."""
        check_regular(path)
        if not path.is_file():
            raise Vl4adError(f"There is no file {path}.")
        if str(path) != str(path).encode(errors="replace").decode():  # it would crash
            raise Vl4adError(f"{path}: OpenCV opens no video with a name that is not UTF-8; rename it.")
        self.path = path
        self._capture = cv2.VideoCapture(str(path))
        self.rate = float(self._capture.get(cv2.CAP_PROP_FPS)) or 25.0  # frames per second
        self.count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))  # number of frames, as the file says
        if not self._capture.isOpened() or self.count < 1:
            raise Vl4adError(f"{path}: not a video that OpenCV can decode, or damaged.")

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def frames(self, whole: bool = True) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames from the beginning as RGB, uint8 [H, W, 3].

        Where the file says that there are more, that is an error after the last one; not so without `whole`.
        """
        self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
        number = 0
        while (frame := self._capture.read())[0]:
            number += 1
            yield np.asarray(cv2.cvtColor(frame[1], cv2.COLOR_BGR2RGB), dtype=np.uint8)
        if whole and number < self.count - max(MISSING_FRAMES, MISSING_SHARE * self.count):
            raise Vl4adError(f"{self.path}: cut off or damaged, {number} of its {self.count} frames can be decoded.")

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Return one frame as RGB, uint8 [H, W, 3]."""
        self._capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        decoded, frame = self._capture.read()
        if not decoded:
            raise Vl4adError(f"{self.path}: frame {index} cannot be decoded.")
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)


@dataclass(frozen=True)
class Picture:
    """A picture to process: a name for its results, where it is from, and its pixels (RGB)."""

    stem: str
    source: Path
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class Input:
    """One input of the command line, looked at but not read yet."""

    path: Path
    stem: str  # name for its results, unique among the inputs
    count: int  # number of pictures in it

    def pictures(self) -> Iterator[Picture]:
        """Read its pictures; a video's frames are named STEM_000000 and on."""
        if _is(VIDEOS, self.path):
            with Video(self.path) as video:
                for index, image in enumerate(video.frames()):
                    yield Picture(f"{self.stem}_{index:06d}", self.path, image)
        else:
            yield Picture(self.stem, self.path, read_picture(self.path))


def find_inputs(paths: Sequence[Path]) -> list[Input]:
    """Expand files and folders (without folders inside) to a list of pictures and videos.

    A video that cannot be opened counts as one picture, which then cannot be read: the others are not held up.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if _is(INPUTS, p))
            if not inside:
                raise Vl4adError(f"The folder {path} has no pictures or videos.")
            files += inside
        elif not path.exists():
            raise Vl4adError(f"There is no file or folder {path}.")
        elif not _is(INPUTS, path):
            raise Vl4adError(f"{path}: neither a picture nor a video by its name; expected one of {' '.join(INPUTS)}.")
        else:
            files.append(path)
    inputs: list[Input] = []
    # A video's frames have its name and a number: v.avi must not have those of v_000000.png.
    taken: set[str] = set()
    taken_in_front: set[str] = set()
    videos: set[str] = set()
    for file in files:
        stem, number = file.stem, 2
        while stem in taken or _without_number(stem) in videos or (_is(VIDEOS, file) and stem in taken_in_front):
            stem, number = f"{file.stem}_{number}", number + 1
        taken.add(stem)
        taken_in_front.add(_without_number(stem))
        count = 1
        if _is(VIDEOS, file):
            videos.add(stem)
            with contextlib.suppress(Vl4adError), Video(file) as video:
                count = video.count
        inputs.append(Input(file, stem, count))
    return inputs


def _without_number(stem: str) -> str:
    """Return a name without the number that a video's frame has; empty for one without such a number."""
    front, _, number = stem.rpartition("_")
    return front if len(number) >= 6 and number.isdecimal() else ""


def _is(suffixes: Sequence[str], path: Path) -> bool:
    return path.suffix.lower() in suffixes


def write_uncertainty(folder: Path, stem: str, uncertainty: NDArray[np.float32], kind: str) -> Path:
    """Write a map [H, W] in [0, 1] as float32 (`npy`) or 16-bit grey, times 65535 (`png16`); return the file."""
    if kind == "png16":
        return _write(folder / f"{stem}.uncertainty.png", encode_png(np.round(uncertainty * 65535).astype(np.uint16)))
    stored = io.BytesIO()
    np.save(stored, uncertainty, allow_pickle=False)
    return _write(folder / f"{stem}.uncertainty.npy", stored.getvalue())


def write_mask(folder: Path, stem: str, mask: NDArray[np.uint8]) -> Path:
    """Write a mask, 0 or 255, as PNG; return the file."""
    return _write(folder / f"{stem}.mask.png", encode_png(mask))


def write_overlay(folder: Path, stem: str, overlay: NDArray[np.uint8]) -> Path:
    """Write an RGB picture as JPEG; return the file."""
    return _write(folder / f"{stem}.overlay.jpg", encode_jpeg(overlay))


def _write(path: Path, data: bytes) -> Path:
    write_bytes(path, data)
    return path
