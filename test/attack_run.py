"""Attacks on commands, in a process of its own: python attack_run.py KIND FIRST COUNT FOLDER.

Prints a JSON line for each: its number, exit status, seconds, what was said last, and the process's memory so far.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import cv2  # noqa: E402 - needs the path above
import numpy as np  # noqa: E402
from bombs import PICTURE, bmp_of, chunk, encoded, indexed, jpeg_of_scans, png_of, recording, zeros  # noqa: E402
from mock_bundle import ColourEncoder, mock_prompt_sets, write_mock_bundle  # noqa: E402

from vl4ad_ros.cli.main import main  # noqa: E402
from vl4ad_ros.io.bag_writer import IMAGE, IMAGE_TOPIC, LABEL_TOPIC, START_NS, BagWriter  # noqa: E402
from vl4ad_ros.prompts.compile import compile_prompt_set  # noqa: E402

LIMIT_S = 120.0  # for one command, however busy the machine is
GIB = 1 << 30


class Attack(NamedTuple):
    """A good file, and the command that reads it when it has been spoilt."""

    name: str
    make: Callable[[Path], object]
    command: str


def picture(path: Path) -> None:
    path.write_bytes(encoded(path.suffix))


def film(path: Path) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (48, 32))
    for _ in range(4):
        writer.write(PICTURE)
    writer.release()


def bag(path: Path) -> None:
    with BagWriter(path.with_suffix("")) as writer:
        for topic in (IMAGE_TOPIC, LABEL_TOPIC):
            writer.add_topic(topic, IMAGE)
        for index in range(4):
            stamp = START_NS + index * 100_000_000
            writer.write(IMAGE_TOPIC, stamp, writer.image(PICTURE, "rgb8", stamp, "camera"))
            writer.write(LABEL_TOPIC, stamp, writer.image(PICTURE[..., 0] // 128, "mono8", stamp, "camera"))
    (path.with_suffix("") / path.name).replace(path)
    shutil.rmtree(path.with_suffix(""))


def data_set(path: Path) -> None:
    for folder in ("images", "labels"):
        (path.parents[1] / folder).mkdir(exist_ok=True)
    (path.parents[1] / "images/a.png").write_bytes(encoded(".png"))
    cv2.imwrite(str(path), PICTURE[..., 0] // 128)


def result(path: Path) -> None:
    data_set(path.parents[1] / "labels/a.png")
    command = "evaluate dataset folder {0} --out {1} --bundle {0}/mock --prompt-set traffic_ood"
    main(command.format(path.parents[1], path.parent).split())


def prompt_set(path: Path) -> None:
    compile_prompt_set(mock_prompt_sets()["traffic"], ColourEncoder()).save(path)


def card(path: Path) -> None:
    shutil.rmtree(path.parent, ignore_errors=True)
    write_mock_bundle(path.parent)


DETECT = "detect {work}/{name} --out {work}/out --bundle {work}/mock"
BAG = "evaluate bag {work}/{name} --label-topic /camera/label --out {work}/out --bundle {work}/mock"
YAML = "name: lights\nclasses: {stop: [red], go: [green, yellow]}\nood: [blue, white]\ntemplates: plain\n"
PARAMETERS = "/**:\n  ros__parameters:\n    threshold: 0.5\n    cameras: [front, rear]\n"
KINDS = {
    "png": Attack("a.png", picture, DETECT),
    "jpeg": Attack("a.jpg", picture, DETECT),
    "webp": Attack("a.webp", picture, DETECT),
    "tiff": Attack("a.tiff", picture, DETECT),
    "bmp": Attack("a.bmp", picture, DETECT),
    "film": Attack("a.avi", film, DETECT),
    "film to bag": Attack("a.avi", film, "make-bag {work}/{name} --out {work}/out/bag"),
    "label": Attack("labels/a.png", data_set, "evaluate dataset folder {work} --out {work}/out --bundle {work}/mock"),
    "bag": Attack("bag.mcap", bag, BAG),
    "drive": Attack("bag.mcap", bag, "evaluate calibrate {work}/{name} --image-topic /camera/image_raw --per-frame 1 "
                    "--bundle {work}/mock"),
    "prompts": Attack("p.yaml", lambda path: path.write_text(YAML), "prompts inspect {work}/{name}"),
    "compiled": Attack("p.safetensors", prompt_set, "prompts inspect {work}/{name}"),
    "rows": Attack("r.npy", lambda path: np.save(path, np.eye(3, dtype=np.float32)),
                   "prompts compile {work}/mock/three.yaml --encoder mock:rgb --from-npy {work}/{name} "
                   "--out {work}/out/p.safetensors"),
    "scores": Attack("s.npz", lambda path: np.savez(path, labels=np.zeros((2, 8, 8), np.uint8),
                                                    scores=np.zeros((2, 8, 8), np.float32)),
                     "evaluate arrays {work}/{name}"),
    "card": Attack("card/card.json", card, "prompts list --bundle {work}/card"),
    "result": Attack("before/result.json", result, "evaluate compare {work}/before {work}/before"),
    "frames": Attack("before/frames.jsonl", result, "evaluate compare {work}/before {work}/before"),
    "histograms": Attack("before/histograms.npz", result, "evaluate compare {work}/before {work}/before"),
    "parameters": Attack("p.yaml", lambda path: path.write_text(PARAMETERS),
                         "evaluate calibrate {work}/none --per-frame 1 --params {work}/{name}"),
    "training": Attack("t.yaml", lambda path: shutil.copy(ROOT / "config/train/vl4ad-small.yaml", path),
                       "train {work}/{name} --check --device cpu"),
}  # fmt: skip
BOMBS = [
    Attack("a.png", lambda path: path.write_bytes(png_of(30_000, 30_000)), DETECT),
    Attack("a.png", lambda path: path.write_bytes(png_of(9_400, 9_400)), DETECT),
    Attack("a.bmp", lambda path: path.write_bytes(bmp_of(30_000, 30_000)), DETECT),
    Attack("a.jpg", lambda path: path.write_bytes(jpeg_of_scans(5000)), DETECT),
    Attack("bag.mcap", lambda path: recording(path, chunk("zstd", zeros("zstd", GIB), 8 * GIB)), BAG),
    Attack("bag.mcap", lambda path: recording(path, chunk("zstd", zeros("zstd", GIB), 100)), BAG),
    Attack("bag.mcap", lambda path: recording(path, chunk("lz4", zeros("lz4", GIB), 4 * GIB)), BAG),
    Attack("bag.mcap", lambda path: recording(path, *[chunk("zstd", zeros("zstd", GIB // 4), GIB // 4)] * 8), BAG),
    Attack("bag.mcap", lambda path: indexed(path, 1000, GIB // 4), BAG),
    Attack("p.yaml", lambda path: path.write_text("[" * 1_000_000), "prompts inspect {work}/{name}"),
    Attack("p.yaml", lambda path: path.write_text("a: &a [" + "1," * 99 + "1]\nb: [" + "*a," * 99_999 + "*a]\n"),
           "prompts inspect {work}/{name}"),
    Attack("p.yaml", lambda path: os.truncate(_empty(path), 1 << 36), "prompts inspect {work}/{name}"),
    Attack("p.safetensors", lambda path: os.truncate(_empty(path), 1 << 36), "prompts inspect {work}/{name}"),
    Attack("p.safetensors", os.mkfifo, "prompts inspect {work}/{name}"),
    Attack("s.npz", os.mkfifo, "evaluate arrays {work}/{name}"),
    Attack("a.png", lambda path: os.truncate(_empty(path), 1 << 36), DETECT),
]  # fmt: skip


def _empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def status_of(name: str) -> str:
    """An entry of what the kernel says of this process (getrusage counts the parent's memory, too)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.partition(":")[2] for line in lines if line.startswith(name))


def spoilt(content: bytes, rng: random.Random) -> bytes:
    """Content that was cut, or in which bytes, numbers or whole pieces were changed, repeated or taken out."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at, size = rng.randrange(len(data) + 1), rng.choice((1, 4, 8, 100, 4000))
        data = data or bytearray(b"\0")
        change = rng.choice(("flip", "cut", "number", "repeat", "remove", "noise"))
        if change == "flip":
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif change == "cut":
            del data[at:]
        elif change == "number":
            data[at : at + 8] = rng.choice((b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"99999999"))
        elif change == "repeat":
            data[at:at] = data[at : at + size] * rng.choice((1, 2, 500))
        elif change == "remove":
            del data[at : at + size]
        else:
            data[at : at + size] = rng.randbytes(size)
    return bytes(data)


def run(number: int, attack: Attack, work: Path, rng: random.Random | None) -> dict[str, object]:
    """Make a file, spoil it, and give it to its command."""
    path = work / attack.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    attack.make(path)
    if rng is not None:
        path.write_bytes(spoilt(path.read_bytes(), rng))
    shutil.rmtree(work / "out", ignore_errors=True)
    (work / "out").mkdir()
    said, started = io.StringIO(), time.monotonic()
    faulthandler.dump_traceback_later(LIMIT_S, exit=True)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        status = main(attack.command.format(work=work, name=attack.name).split())
    faulthandler.cancel_dump_traceback_later()
    last = (said.getvalue().strip().splitlines() or [""])[-1]
    seconds, peak = time.monotonic() - started, int(status_of("VmHWM").split()[0]) / 1024
    shown = {"number": number, "status": status, "seconds": round(seconds, 2), "mib": round(peak)}
    return shown | {"traceback": "Traceback" in said.getvalue(), "said": last}


if __name__ == "__main__":
    kind, first, count, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    write_mock_bundle(folder / "mock")
    (folder / "mock/three.yaml").write_text("name: three\nclasses: {stop: [red], go: [green]}\nood: [blue]\n")
    for place in range(first, first + count):
        if kind == "bombs":
            shown = run(place, BOMBS[place], folder, None)
        else:
            shown = run(place, KINDS[kind], folder, random.Random(f"{kind} {place}"))
        sys.stdout.write(json.dumps(shown) + "\n")
        sys.stdout.flush()
