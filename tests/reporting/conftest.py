"""A maker of runs."""

from pathlib import Path

import pytest
from toy_runs import MakeRun, make


@pytest.fixture
def run(tmp_path: Path) -> MakeRun:
    """`make` below an empty folder, by the run's name."""
    return lambda name, *arguments, **fields: make(tmp_path / "runs" / name, *arguments, **fields)
