"""Under test, every shape written in a signature is checked."""

from jaxtyping import install_import_hook

# Before anything of the package is imported.
install_import_hook("anomaly_gan", "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_test() -> None:
    torch.manual_seed(0)
