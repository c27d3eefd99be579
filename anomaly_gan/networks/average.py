"""A moving average of a network's weights."""

from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class MovingAverage(AveragedModel):
    """torch's exponential moving average of weights and buffers, which does not wait for the device.

    torch's own asks at each update whether it is the first, which copies, and the number of updates lies on
    the device. The result is the same to the bit.

    Args:
        model: starts the average; it is copied.
        decay: in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float):
        super().__init__(model, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move the average towards the weights and buffers of `model`; the first time, take them."""
        count: Tensor = self.n_averaged
        weight = torch.where(count > 0, 1 - self.decay, 1.0)
        own = chain(self.module.parameters(), self.module.buffers())
        for averaged, value in zip(own, chain(model.parameters(), model.buffers()), strict=True):
            if averaged.is_floating_point():
                averaged.lerp_(value, weight.to(averaged.dtype))
            else:
                mean = averaged * self.decay + value * (1 - self.decay)
                averaged.copy_(torch.where(count > 0, mean, value))
        count += 1
