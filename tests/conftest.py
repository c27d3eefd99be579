"""Under test, every shape written in a signature is checked."""

import os

from jaxtyping import install_import_hook

os.environ["MPLBACKEND"] = "agg"  # as the commands have it; matplotlib refuses what it does not know

# Before anything of the package is imported.
install_import_hook("anomaly_gan", "beartype.beartype")

import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_test() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run on digits."""
    from anomaly_gan.cli.main import main

    runs = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["anomaly-gan", "train", "debug=fast", f"paths.runs={runs}"])
        with pytest.raises(SystemExit) as stop:
            main()
    assert not stop.value.code
    (folder,) = (runs / "digits").iterdir()
    return folder
