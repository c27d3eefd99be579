"""Under test, every shape written in a signature is checked."""

import os

from jaxtyping import install_import_hook

os.environ["MPLBACKEND"] = "agg"  # as the commands have it; matplotlib refuses what it does not know

# Before anything of the package is imported.
install_import_hook("anomaly_gan", "beartype.beartype")

import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402

if TYPE_CHECKING:
    from anomaly_gan.scoring.neighbours import NearestNeighbours


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


@pytest.fixture
def make_scorer() -> "Callable[..., NearestNeighbours]":
    """The paper's scorer, small, but for the changes; of 16 x 16 grey images where nothing else is said."""
    from anomaly_gan.networks.autoencoders import ResNet
    from anomaly_gan.scoring.neighbours import NearestNeighbours
    from anomaly_gan.transforms.augment import Augment
    from anomaly_gan.transforms.shifts import Rotations
    from anomaly_gan.transforms.views import ShiftedViews

    def make(**changes: Any) -> NearestNeighbours:
        settings: dict[str, Any] = {
            "image_size": 16,
            "channels": 1,
            "width": 8,
            "embedding_size": 12,
            "networks": ResNet(width=8, latent_size=6),
            "views": ShiftedViews(Rotations(), Augment()),
            "seed": 0,
            "primary": "csi",
            "ensemble": 2,
            "chunk": 64,
            "precision": "32-true",
            "recalibrate_batch_norm": True,
        }
        return NearestNeighbours(**settings | changes)

    return make
