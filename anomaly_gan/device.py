"""Where tensors live."""

import torch

from anomaly_gan.errors import UserError, nearest


def choose(name: str) -> torch.device:
    """The device `name` (auto, cpu or cuda) means here.

    Raises:
        UserError: another name, or cuda where there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"device={name}: no such device; {nearest(name, ['auto', 'cpu', 'cuda'])}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda: this machine has no CUDA device that torch can use; device=cpu works")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
