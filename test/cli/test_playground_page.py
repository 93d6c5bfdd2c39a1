"""The playground in a real browser: load, edit a concept, click a pixel, compare, save, reload."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest

from vl4ad_ros.cli.main import main
from vl4ad_ros.drive.render import Drive
from vl4ad_ros.runtime.prompt_set import load_compiled

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 180
SET = "name: mine\nclasses: {road: [road, street], other: [car, tree, house, sky]}\nood: [dog]\n"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("playground") / "sets"


@pytest.fixture(scope="module")
def address(browser: Any, sets: Path) -> Iterator[str]:
    """The page of a running `vl4ad playground` with one picture."""
    sets.parent.mkdir(exist_ok=True)
    picture = sets.parent / "road.png"
    cv2.imwrite(str(picture), cv2.cvtColor(Drive(0, 20, 480, 270).frame(12).image, cv2.COLOR_RGB2BGR))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vl4ad_ros.cli.main", "playground", str(picture), "--no-open"]
    # NiceGUI has a mode of its own for tests, which serves nothing.
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    log = sets.parent / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*command, "--port", str(port), "--out", str(sets)],
            cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT,
        ) as process,
    ):  # fmt: skip
        try:
            deadline = time.monotonic() + DEADLINE_S
            while not _answers(f"http://127.0.0.1:{port}"):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
    assert "Traceback" not in log.read_text()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE_S):
            return True
    except OSError:
        return False


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A window with the first map in it; afterwards nothing was asked of another machine and nothing went wrong."""
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    context.set_default_timeout(DEADLINE_S * 1000)
    window, faults = context.new_page(), []
    window.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    window.on("pageerror", lambda error: faults.append(str(error)))
    window.on("request", lambda request: faults.append(request.url) if not _is_local(request.url, address) else None)
    window.goto(address)
    window.wait_for_selector(".side-a .status:not(:empty)")
    yield window
    context.close()
    assert not faults


def _is_local(url: str, address: str) -> bool:
    return url.startswith((address, address.replace("http", "ws"), "data:", "blob:"))


def write(page: Any, text: str) -> None:
    """Replace the text of A."""
    page.locator(".side-a .cm-content").click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(text)


def shown(page: Any) -> str:
    return str(page.locator(".side-a .map img").get_attribute("src"))


def wait_text(page: Any, selector: str, text: str) -> None:
    page.locator(selector, has_text=text).wait_for()


def test_edit_click_save_send_and_reload(page: Any, sets: Path) -> None:
    first = shown(page)
    write(page, SET)
    wait_text(page, ".side-a .status", "2 classes, 1 out of distribution, 7 concepts")
    edited = shown(page)
    assert edited != first
    write(page, SET.replace("classes", "clases"))
    wait_text(page, ".side-a .error", "did you mean")
    assert shown(page) == edited
    write(page, SET)
    page.wait_for_selector(".side-a .error:empty", state="attached")
    page.locator(".side-a .map img").click(position={"x": 200, "y": 300})
    wait_text(page, ".side-a .explanation", "best explained by")
    wait_text(page, ".side-a .near", "street")
    page.get_by_role("button", name="Save").first.click()
    wait_text(page, ".side-a .note", "Saved")
    assert (sets / "mine.yaml").read_text() == SET
    assert load_compiled(sets / "mine.safetensors").columns == ("road", "other", "dog")
    # No node runs here: with or without rclpy the page shows what to type once one does.
    page.get_by_role("button", name="Send").first.click()
    wait_text(page, ".side-a .note", f"ros2 param set /detector prompt_set {sets / 'mine.safetensors'}")
    page.reload()
    wait_text(page, ".side-a .status", "7 concepts")
    wait_text(page, ".side-a .cm-content", "name: mine")
    wait_text(page, ".side-a .explanation", "best explained by")


def test_two_sets_beside_each_other_fit_any_screen(page: Any) -> None:
    page.get_by_role("switch").click()
    page.wait_for_selector(".side-b .status:not(:empty)")
    for width in (1300, 400):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    left, right = (page.locator(f".side-{side} .status").text_content() for side in "ab")
    assert left.split("·")[1] != right.split("·")[1]


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nicegui", reason="the playground extra is not installed")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["playground", "--no-open", "--port", str(port)]) == 2
    assert str(port) in capsys.readouterr().err
