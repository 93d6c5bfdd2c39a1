"""The commands that the pages show: all parse, the cheap ones are run, and for the rest a test or a reason is named."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from cyclopts import CycloptsError

from vl4ad_ros.cli.main import main, make_app
from vl4ad_ros.drive.record import record
from vl4ad_ros.drive.render import Drive
from vl4ad_ros.runtime.bundle import ModelBundle
from vl4ad_ros.runtime.settings import BY_NAME, PARAMETERS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "models").glob("*/README.md")])
LAUNCH_ARGUMENT = re.compile(r'^ {4}\(\s*"(\w+)",', re.MULTILINE)


def commands(page: Path) -> Iterator[list[str]]:
    """Lines of code blocks that begin with one of the two commands, with the lines that they go on in."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        stripped = line.removeprefix("$").strip()
        # Not in tables and sentences, where options are left out.
        if re.match(r"vl4ad [a-z]|ros2 launch vl4ad_ros ", stripped):
            yield shlex.split(stripped, comments=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_of_the_pages_parse(page: Path) -> None:
    for words in commands(page):
        shown = shlex.join(words)
        if words[0] == "ros2":
            launch = (ROOT / "launch" / words[3]).read_text(encoding="utf-8")
            known = {*LAUNCH_ARGUMENT.findall(launch), *(parameter.name for parameter in PARAMETERS)}
            for word in words[4:]:
                assert word.partition(":=")[0] in known, f"{page.name}: {shown}"
            continue
        try:
            make_app().parse_args(words[1:])
        except CycloptsError as error:
            pytest.fail(f"{page.name}: {shown}: {error}")


def anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_the_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, section = link.partition("#")
        if path.startswith("http"):
            continue
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name}: {link}"
        if section:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert section in map(anchor, headings), f"{page.name}: {link}"


# Commands with a second word.
GROUPS = {"prompts", "evaluate", "export", "random-word", "bench"}
SHELL = {"cd", "source", "export", "."}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def shown_lines(page: Path) -> Iterator[list[str]]:
    """Commands of a page's bash blocks, without comments and what they are given as environment."""
    for block in re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for command in line.split(" && "):
                words = [w for w in shlex.split(command, comments=True) if not re.match(r"[A-Z0-9_]+=", w)]
                if words and words[0] not in SHELL:
                    yield words


# What is run here as it stands, in this order: some need what others leave.
RUN = """
vl4ad --help
vl4ad prompts list
vl4ad prompts inspect my_city.yaml
vl4ad prompts compile my_city.yaml --bundle vl4ad-small
vl4ad prompts compile my_city.yaml --encoder minilm:all-MiniLM-L6-v2 --out my_city.safetensors
vl4ad detect photo.jpg --out results --prompt-set cityscapes
vl4ad detect photo.jpg folder/ drive.mp4 --out results --prompt-set cityscapes_ood
vl4ad detect frames/ --out out --explain
vl4ad detect picture.jpg --out maps --method random_word
vl4ad detect picture.jpg --out maps --method both --random-word tunnels
vl4ad explain road.jpg --at 640,410
vl4ad random-word inspect vl4ad-small
vl4ad make-bag film.mp4 --out film_bag --jpeg
vl4ad make-bag pictures/ --labels labels/ --rate 10 --out drive_bag
vl4ad evaluate arrays frames.npz --json
vl4ad evaluate dataset folder my_frames/ --anomaly 1 --void 255 --out out/mine
vl4ad evaluate bag drive/ --image-topic /camera/image_raw --label-topic /camera/label --out out/drive
vl4ad evaluate compare out/before out/after --max-drop 0.005
vl4ad evaluate calibrate monday/ tuesday/ --per-km 0.1 --speed-kmh 42 --params detector.yaml
""".strip().splitlines()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands of `RUN` name: pictures, films, bags, a prompt set, the bundle as a copy."""
    folder = tmp_path_factory.mktemp("workplace")
    drive = Drive(seed=0, frames=3, width=320, height=180)
    record(drive, folder / "drive")
    for day in ("monday", "tuesday"):
        shutil.copytree(folder / "drive", folder / day)
    frames = [drive.frame(index) for index in range(drive.frames)]
    places = ("folder", "frames", "pictures", "labels", "my_frames/images", "my_frames/labels")
    for index, frame in enumerate(frames):
        for place in places:
            pixels = frame.label if place.endswith("labels") else cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
            (folder / place).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / place / f"{index}.png"), pixels)
    large = cv2.resize(frames[0].image, (1280, 720))
    for name in ("photo.jpg", "picture.jpg", "road.jpg"):
        cv2.imwrite(str(folder / name), large)
    for name in ("drive.mp4", "film.mp4"):
        film = cv2.VideoWriter(str(folder / name), cv2.VideoWriter.fourcc(*"mp4v"), 10, (320, 180))
        for frame in frames:
            film.write(frame.image)
        film.release()
    labels = np.stack([frame.label for frame in frames])
    np.savez(folder / "frames.npz", labels=labels, scores=np.random.default_rng(0).random(labels.shape, np.float32))
    page = (ROOT / "docs" / "prompts.md").read_text(encoding="utf-8")
    (folder / "my_city.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    bundle = Path(shutil.copytree(ROOT / "models" / "vl4ad-small", folder / "vl4ad-small"))
    shutil.copy(bundle / "random_word" / "default.safetensors", bundle / "random_word" / "tunnels.safetensors")
    return folder


def test_commands_of_the_pages_run(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    for command in RUN:
        if "compare" in command:
            for name in ("before", "after"):
                shutil.copytree("out/mine", f"out/{name}")
        assert main(shlex.split(command)[1:]) == 0, f"{command}: {capsys.readouterr().err}"


def not_run() -> dict[str, str]:
    """Commands that docs/install.md says no test runs, with the reason."""
    table = (ROOT / "docs" / "install.md").read_text(encoding="utf-8").split("| commands that no test runs |")[1]
    rows = [line.strip("|").split("|") for line in table.splitlines()[2:] if line.startswith("|")]
    return {command: reason.strip() for commands, reason in rows for command in re.findall("`([^`]+)`", commands)}


def test_commands_of_the_pages_are_run_by_a_test_or_listed() -> None:
    listed = not_run()
    assert all(listed.values())
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "test").rglob("*.py"))
    unused = set(RUN)
    for page in PAGES:
        for words in shown_lines(page):
            shown = " ".join(words).removeprefix("python3 -m ").removeprefix("python ")
            unused.discard(shown)
            if shown in RUN or shown.startswith(tuple(listed)):
                continue
            if words[0] == "vl4ad":
                parts = words[1:3] if words[1] in GROUPS else words[1:2]
                call = r",\s*".join(f'"{part}"' for part in parts)
            else:
                call = re.escape(shown.split()[0])
            assert re.search(call, tests), f"{page.name}: no test runs {shown}"
    assert not unused, "no page shows these any more"


def test_what_is_listed_names_things_that_exist() -> None:
    for page in PAGES:
        for words in shown_lines(page):
            if words[0] == "make":
                assert re.search(rf"^{words[1]}:", MAKEFILE, re.MULTILINE), f"{page.name}: {words}"
            if words[:3] == ["ros2", "param", "set"]:
                assert words[3] == "/detector"
                _check_parameter(words[4], words[5])


def _check_parameter(name: str, value: str) -> None:
    parameter = BY_NAME[name]
    assert parameter.live, name
    if parameter.choices:
        assert value in parameter.choices
    if parameter.low is not None and parameter.high is not None:
        assert parameter.low <= float(value) <= parameter.high
    if name == "prompt_set" and not value.startswith("/"):
        assert value in ModelBundle.load("vl4ad-small", verify=False).prompt_set_names()


ROOMS = "vl4ad_ros|test|config|scripts|docker|io|runtime|network|nodes|random_word"
FILE = re.compile(rf"(?<!/)\b(?:{ROOMS})/[\w/.-]+\.(?:py|ya?ml|sh|xml|json)\b")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_the_pages_name_exist(page: Path) -> None:
    for name in FILE.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists() or (ROOT / "vl4ad_ros" / name).exists(), f"{page.name}: {name}"
