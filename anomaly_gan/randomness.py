"""Randomness as a function of what it is for, so that a run can be resumed, shared or repeated exactly.

No random state is carried along: a random generator (`rng`) is seeded by (seed, purpose, iteration). What
iteration 1,000 draws is the same whether a run came there in one go or was resumed at 999, and whether one
process or eight share its batch.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from anomaly_gan.errors import UserError
from anomaly_gan.sharding import Shard


def derive_seed(*keys: int | str) -> int:
    """A 63-bit seed from `keys` (non-negative integers and strings); other keys, unrelated streams.

    A purpose always has the same number of keys: a last key of 0 is as good as none.

    Raises:
        UserError: a number is negative.
    """
    negative = [key for key in keys if not isinstance(key, str) and key < 0]
    if negative:
        raise UserError(f"seed={negative[0]} must be at least 0")
    words = [zlib.crc32(key.encode()) if isinstance(key, str) else key for key in keys]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


def make_rng(device: torch.device | str, *keys: int | str) -> torch.Generator:
    """A random generator on `device`, seeded by `keys`."""
    return torch.Generator(device).manual_seed(derive_seed(*keys))


@dataclass(frozen=True)
class RowRng:
    """Random numbers for the rows of a batch, of which this process may have but a part.

    A row's numbers hang on its place in the whole batch alone: what several processes draw, each for its own
    rows, is what one process would draw for all of them. Rows can come in groups of a batch each: several
    views of each image, real images and as many made ones.

    Args:
        base: seeded alike in all processes; the numbers come on its device.
        shard: which rows this process has; None: all.
    """

    base: torch.Generator
    shard: Shard | None = None

    def uniform(self, count: int, columns: int) -> Float[Tensor, "{count} {columns}"]:
        """Uniform in [0, 1): a line of numbers for each of `count` rows, whole groups of this process's."""
        return self._own(torch.rand, count, columns)

    def normal(self, count: int, columns: int) -> Float[Tensor, "{count} {columns}"]:
        """Of N(0, 1), likewise."""
        return self._own(torch.randn, count, columns)

    def _own(self, draw: Callable[..., Tensor], count: int, columns: int) -> Tensor:
        shard = self.shard or Shard(count)
        groups, over = divmod(count, shard.rows)
        if over:
            raise ValueError(f"count={count}: give a multiple of the {shard.rows} rows of this process")
        drawn = draw(groups, shard.total, columns, generator=self.base, device=self.base.device)
        return drawn[:, shard.first : shard.first + shard.rows].flatten(0, 1)
