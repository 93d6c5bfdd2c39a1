"""The command line in this process, for the fixture `cli`."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from vl4ad_ros.cli.main import USAGE_ERROR, main


@dataclass
class Cli:
    """`vl4ad` with these words; anything that has a text can be a word."""

    capture: pytest.CaptureFixture[str]

    def __call__(self, *words: object, status: int = 0) -> str:
        """Run a command that must end with the status; return what it prints."""
        self.capture.readouterr()
        found = main([str(word) for word in words])
        printed = self.capture.readouterr()
        assert found == status, printed.err
        return printed.out

    def error(self, *words: object) -> str:
        """Run a command that must be refused; return what it says."""
        self.capture.readouterr()
        assert main([str(word) for word in words]) == USAGE_ERROR
        said = self.capture.readouterr().err
        assert "Traceback" not in said
        return said
