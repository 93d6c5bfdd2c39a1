"""Fixtures for all tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Helper modules in test/ (mock_bundle) are imported by their plain names.
sys.path.insert(0, str(ROOT / "test"))

from mock_bundle import write_mock_bundle  # noqa: E402 - needs the path above


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
        reason = "no goldens and real data here (set VL4AD_SHARED to their folder)"
        if os.environ.get("CI"):
            pytest.fail(f"CI needs them: {reason}")
        pytest.skip(reason)
    return found


@pytest.fixture
def mock_bundle(tmp_path: Path) -> Path:
    """A fresh mock bundle of this test's own (see `mock_bundle.write_mock_bundle`)."""
    return write_mock_bundle(tmp_path / "mock")
