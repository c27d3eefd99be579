"""Losses are computed in float32 at least, whatever the networks compute in."""

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Lift half precision to float32 (a log-sum-exp or a mean needs it); leave float64 as it is."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
