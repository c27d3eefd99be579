"""The short forms of benchmarks/kills.py and benchmarks/fuzz.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments"),
    [("kills", ["--random", "1", "--aimed", "1"]), ("fuzz", ["--images", "100", "--settings", "15"])],
)
def test_kills_and_odd_input_do_no_harm(tmp_path: Path, script: str, arguments: list[str]) -> None:
    output = tmp_path / "found.json"
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), *arguments, "--output", str(output)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(output.read_text())
    if script == "kills":
        assert found["random"]["kills"] + found["aimed"]["kills"] == 2
    else:
        assert sum(found["images decoded"]["outcomes"].values()) == 100
        assert found["images decoded"]["outcomes"].keys() == {"decoded", "refused"}
        assert sum(found["settings of train"]["outcomes"].values()) == 12
