"""Randomness as a function of what it is for, so that a run can be resumed or repeated exactly.

No random state is carried along: a generator is seeded by (seed, purpose, iteration, rank). What iteration
1,000 draws is the same whether a run came there in one go or was resumed at 999.
"""

import zlib

import numpy as np
import torch


def derive_seed(*keys: int | str) -> int:
    """A 63-bit seed from `keys` (non-negative integers and strings); other keys, unrelated streams.

    A purpose always has the same number of keys: a last key of 0 is as good as none.
    """
    words = [zlib.crc32(key.encode()) if isinstance(key, str) else key for key in keys]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


def make_generator(device: torch.device | str, *keys: int | str) -> torch.Generator:
    """A generator on `device`, seeded by `keys`."""
    return torch.Generator(device).manual_seed(derive_seed(*keys))
