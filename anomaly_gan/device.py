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


def check_usable(device: str | torch.device) -> None:
    """Refuse a device of torch's ("cpu", "cuda:1") that nothing can be put on here.

    Raises:
        UserError: so it is.
    """
    try:
        torch.empty(0, device=torch.device(device))
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        raise UserError(f"device={device}: torch cannot use it here; device='cpu' works") from error


def choose_precision(precision: Any, accelerator: str) -> str:
    """What `precision` (a name of Lightning's, auto or fastest) means on `accelerator`.

    Both words mean bfloat16 on a GPU that computes in it, and float32 where nothing does. On a CPU that
    computes in bfloat16 `fastest` takes it, while auto stays with float32, so that figures are the same on
    every CPU.

    Raises:
        UserError: float16, whose loss scaler serves one optimizer, not one a network.
    """
    if str(precision).startswith("16"):
        raise UserError(f"trainer.precision={precision} cannot be used here; give bf16-mixed or 32-true")
    if precision not in ("auto", "fastest"):
        return str(precision)
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    half = torch.cuda.is_bf16_supported() if on_gpu else precision == "fastest" and cpu_computes_in_bf16()
    return "bf16-mixed" if half else "32-true"


def cpu_computes_in_bf16() -> bool:
    """Whether this processor has instructions for products in bfloat16, as far as torch can tell."""
    tell = getattr(torch.cpu, "get_capabilities", dict)  # an older torch cannot tell
    capabilities: dict[str, Any] = tell()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
