"""Dropout as a function of (seed, iteration): its draws come from the iteration's generator."""

from jaxtyping import Float
from torch import Tensor, nn

from anomaly_gan.randomness import RowRng


class Dropout(nn.Module):
    """In training, each value becomes 0 with probability `rate`; the others are divided by 1 - `rate`.

    torch's own dropout draws from the device's global generator. For a resumed run its state would have to be
    saved, and processes that share a batch would not draw what one process draws.

    Args:
        rate: in [0, 1).
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(
        self, values: Float[Tensor, "rows *shape"], rng: RowRng | None
    ) -> Float[Tensor, "rows *shape"]:
        """The same shape and type; the values themselves outside of training and at a rate of 0.

        Args:
            values: rows in whole groups of this process's (see `RowRng`).
            rng: on the device of `values`; nothing is drawn outside of training and at a rate of 0.

        Raises:
            ValueError: in training without `rng`.
        """
        if not self.training or not self.rate:
            return values
        if rng is None:
            raise ValueError("dropout in training needs the iteration's generator")
        kept = rng.uniform(len(values), values[0].numel()) >= self.rate
        return values * kept.view(values.shape) / (1 - self.rate)

    def extra_repr(self) -> str:
        """What torch prints of it."""
        return f"rate={self.rate}"
