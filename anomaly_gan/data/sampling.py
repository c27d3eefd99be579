"""Which images each training iteration sees."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from anomaly_gan.randomness import make_rng
from anomaly_gan.sharding import Shard


class IterationBatches(Sampler[list[int]]):
    """The batches of a training run: batch i is a pure function of (seed, i).

    Each epoch is a permutation of its own, cut into batches; its remainder is dropped. A run resumed at
    iteration `start` therefore sees what the uninterrupted run would have seen.

    Args:
        size: number of training images.
        batch_size: images per batch, over all processes together; at most `size`, at least one a process.
        iterations: batches in the whole run, those before `start` included.
        seed: of the permutations.
        start: first iteration to yield.
        process: whose shard of each batch is taken.
        processes: between how many each batch is shared.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        iterations: int,
        seed: int,
        start: int = 0,
        process: int = 0,
        processes: int = 1,
    ):
        if not processes <= batch_size <= size:
            raise ValueError(f"batches of {batch_size} for {processes} processes from {size} images")
        self.size, self.batch_size, self.iterations, self.seed = size, batch_size, iterations, seed
        self.start, self.shard = start, Shard(batch_size, process, processes)

    def __len__(self) -> int:
        # Of the whole run: Lightning's batch counter starts at `start` too when it resumes.
        return self.iterations

    def __iter__(self) -> Iterator[list[int]]:
        per_epoch = self.size // self.batch_size
        drawn = None
        for iteration in range(self.start, self.iterations):
            epoch, position = divmod(iteration, per_epoch)
            if epoch != drawn:
                order = torch.randperm(
                    self.size, generator=make_rng("cpu", self.seed, "batches", epoch)
                ).tolist()
                drawn = epoch
            first = position * self.batch_size + self.shard.first
            yield order[first : first + self.shard.rows]
