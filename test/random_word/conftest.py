"""The bundle with both methods is exported once: that takes longer than all tests on it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from both_bundle import write_both_bundle


@pytest.fixture(scope="session")
def exported_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle's folder; read only."""
    return write_both_bundle(tmp_path_factory.mktemp("exported") / "colours").path


@pytest.fixture
def both_bundle(exported_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, of this test's own, without a random-word network."""
    return Path(shutil.copytree(exported_bundle, tmp_path / "colours"))
