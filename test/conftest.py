"""Fixtures for all tests."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
# Helper modules in test/ (mock_bundle) are imported by their plain names.
sys.path.insert(0, str(ROOT / "test"))

import reaper  # noqa: E402 - needs the path above
from mock_bundle import write_mock_bundle  # noqa: E402
from run_cli import Cli  # noqa: E402

from vl4ad_ros.evaluation.domain import own_environment  # noqa: E402
from vl4ad_ros.runtime.bundle import ModelBundle  # noqa: E402

# No two runs (of one machine, or workers of one run) hear each other. Set before any context exists: Fast DDS reads it
# once. Live runs of `vl4ad demo` and `vl4ad bench ros` in this process are in the same domain.
os.environ.update(own_environment())
# How long an example takes is the machine's business.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


# Libraries of extras, and what only comes with them.
OPTIONAL = "torch|torchvision|open_clip|timm|transformers|huggingface_hub|h5py|scipy|sklearn|rosbags.image|ray|rclpy"


def missing_library(text: str) -> str:
    """The optional library whose absence an error names; CI has them all, and nothing may be skipped there."""
    found = re.search(rf"No module named '({OPTIONAL})[.']", text)
    return f"Skipped: {found[1]} is not installed" if found and not os.environ.get("CI") else ""


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """Where a library is missing (`colcon test` on a vehicle), the modules that need it are skipped."""
    report = yield
    if report.failed and (reason := missing_library(str(report.longrepr))):
        report.outcome, report.longrepr = "skipped", (str(collector.path), 0, reason)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
    """The same for tests that import it later."""
    report = yield
    if report.failed and call.excinfo.errisinstance(ImportError) and (reason := missing_library(str(report.longrepr))):
        report.outcome, report.longrepr = "skipped", (str(item.path), 0, reason)
    return report


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Whatever this run starts ends with it, also where it is killed (see `reaper`)."""
    mark = os.environ[reaper.MARK] = str(os.getpid())
    command = [sys.executable, reaper.__file__, str(os.getpid()), mark]
    # In a session of its own, so that a signal to all of the run's processes leaves it.
    process = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL)
    yield
    # The reaper itself is among them.
    reaper.end(mark)
    process.wait()


def find_shared() -> Path | None:
    """The folder with goldens and real data: $VL4AD_SHARED, or `shared` beside the repository."""
    candidates = [os.environ.get("VL4AD_SHARED"), str(ROOT.parent / "shared")]
    for candidate in candidates:
        if candidate and (Path(candidate) / "golden").is_dir():
            return Path(candidate)
    return None


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Goldens and real data; a fresh machine has none and skips, CI must have them."""
    found = find_shared()
    if found is None:
        lacking("no goldens and real data here (set VL4AD_SHARED to their folder)")
    return found


def lacking(reason: str) -> NoReturn:
    """Skip a test on a machine that lacks something; fail it in CI, which must have all."""
    if os.environ.get("CI"):
        pytest.fail(f"CI needs it: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window, by Playwright."""
    for package in ("nicegui", "playwright"):
        if importlib.util.find_spec(package) is None:
            lacking(f"the package {package} is not installed (pip install 'vl4ad_ros[playground,dev]')")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        lacking("no chromium here (apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line (see `run_cli`)."""
    return Cli(capsys)


@pytest.fixture
def mock_bundle(tmp_path: Path) -> Path:
    """A fresh mock bundle of this test's own (see `mock_bundle.write_mock_bundle`)."""
    return write_mock_bundle(tmp_path / "mock")


@pytest.fixture(scope="session")
def mask_bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """The mask network at its smallest, exported once; do not write into it."""
    from mask_bundle import write_mask_bundle  # torch is not for every run

    return write_mask_bundle(tmp_path_factory.mktemp("mask") / "bundle")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """A small network with the graph contract, exported once; do not write into it."""
    from tiny_network import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="session")
def exported_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle with both methods and without a random-word network, exported once; read only."""
    from both_bundle import write_both_bundle

    return write_both_bundle(tmp_path_factory.mktemp("exported") / "colours").path


@pytest.fixture
def both_bundle(exported_bundle: Path, tmp_path: Path) -> Path:
    """A copy of it, of this test's own."""
    return Path(shutil.copytree(exported_bundle, tmp_path / "colours"))
