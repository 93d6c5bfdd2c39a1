"""Bundles that several tests of engines share; exporting one takes seconds."""

from __future__ import annotations

import pytest
from mask_bundle import write_mask_bundle

from vl4ad_ros.runtime.bundle import ModelBundle


@pytest.fixture(scope="session")
def mask_bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """The mask network at its smallest; do not write into it."""
    return write_mask_bundle(tmp_path_factory.mktemp("mask") / "bundle")
