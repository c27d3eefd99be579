"""The real SLURM of cluster.sh, where it has been started."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

CLUSTER = Path(__file__).with_name("cluster.sh")


@pytest.fixture(scope="session", autouse=True)
def _cluster() -> Iterator[None]:
    """Its commands reach the test cluster, and never another one that this machine belongs to."""
    told = subprocess.check_output([CLUSTER, "env"], text=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", told.strip().partition("=")[2])
        patch.setenv("OMP_NUM_THREADS", "1")
        here = os.path.exists(os.environ["SLURM_CONF"]) and shutil.which("scontrol") is not None
        if not here or subprocess.run(["scontrol", "ping"], capture_output=True).returncode != 0:
            pytest.skip("no test cluster runs here; as root on Debian: tests/slurm/cluster.sh start")
        yield
