"""Losses, norms and scores are computed in float32 at least, whatever the networks compute in.

Lifting the operands is not enough: autocast runs a matrix product of float32 tensors in half precision too,
and those of a backward pass where that runs inside of it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
Result = TypeVar("Result")


def at_least_float32(values: Tensor) -> Tensor:
    """Lift half precision to float32 (a log-sum-exp or a mean needs it); leave float64 as it is."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def keep_float32() -> None:
    """From now on a GPU computes convolutions of float32 tensors in float32.

    By default torch rounds their operands to TF32, which has the ten binary digits of float16; `32-true`
    would not be what it says. Products of matrices are in float32 by default.
    """
    torch.backends.cudnn.allow_tf32 = False


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """A context in which everything on `device` is computed in the type of its operands."""
    if not torch.amp.is_autocast_available(device.type):  # "meta", where shapes alone are computed
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def in_full_precision(function: Callable[P, Result]) -> Callable[P, Result]:
    """Compute `function` in float32 at least, whatever autocast says.

    Floating tensors among its arguments (one at least, all on one device) are lifted; what else there is, a
    tuple of tensors too, stays as it is. A backward pass wants `without_autocast` of its own.
    """

    @wraps(function)
    def computed(*args: P.args, **kwargs: P.kwargs) -> Result:
        device = next(value.device for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        with without_autocast(device):
            return function(*map(_lifted, args), **{name: _lifted(value) for name, value in kwargs.items()})

    return computed


def _lifted(value: Any) -> Any:
    return at_least_float32(value) if isinstance(value, Tensor) and value.is_floating_point() else value
