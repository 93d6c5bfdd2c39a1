"""Every `vl4ad` and `ros2 launch` command that the pages show exists and takes the options that they give it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from vl4ad_ros.cli.main import make_app
from vl4ad_ros.runtime.settings import PARAMETERS

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


def shown_lines(page: Path) -> Iterator[list[str]]:
    """Commands of a page's bash blocks, without comments and what they are given as environment."""
    for block in re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for command in line.split(" && "):
                words = [w for w in shlex.split(command, comments=True) if not re.match(r"[A-Z0-9_]+=", w)]
                if words and words[0] not in SHELL:
                    yield words


def test_commands_of_the_pages_are_run_by_a_test_or_listed() -> None:
    install = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    listed = tuple(re.findall(r"`([^`]+)`", install.split("that no test runs")[1]))
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "test").rglob("*.py"))
    for page in PAGES:
        for words in shown_lines(page):
            shown = shlex.join(words).removeprefix("python3 -m ").removeprefix("python ")
            if shown.startswith(listed):
                continue
            if words[0] == "vl4ad":
                parts = words[1:3] if words[1] in GROUPS else words[1:2]
                call = r",\s*".join(f'"{part}"' for part in parts)
            else:
                call = re.escape(shown.split()[0])
            assert re.search(call, tests), f"{page.name}: no test runs {shown}"


ROOMS = "vl4ad_ros|test|config|scripts|docker|io|runtime|network|nodes|random_word"
FILE = re.compile(rf"(?<!/)\b(?:{ROOMS})/[\w/.-]+\.(?:py|ya?ml|sh|xml|json)\b")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_the_pages_name_exist(page: Path) -> None:
    for name in FILE.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists() or (ROOT / "vl4ad_ros" / name).exists(), f"{page.name}: {name}"
