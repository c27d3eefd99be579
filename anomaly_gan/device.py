"""Where tensors live."""

from typing import Any

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


def choose_precision(precision: Any, accelerator: str) -> str:
    """What `precision` (a name of Lightning's, or auto) means on `accelerator`.

    auto: bfloat16 where there is a GPU that computes in it, else float32, so that figures from a CPU are the
    same on every CPU.

    Raises:
        UserError: float16, whose loss scaler serves one optimizer, not one a network.
    """
    if str(precision).startswith("16"):
        raise UserError(f"trainer.precision={precision} cannot be used here; give bf16-mixed or 32-true")
    if precision != "auto":
        return str(precision)
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported() else "32-true"
