"""Which images each training iteration sees."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from anomaly_gan.randomness import make_generator


class IterationBatches(Sampler[list[int]]):
    """The batches of a training run: batch i is a pure function of (seed, i).

    Each epoch is a permutation of its own, cut into batches; its remainder is dropped. A run resumed at
    iteration `start` therefore sees what the uninterrupted run would have seen.

    Args:
        size: number of training images.
        batch_size: images per batch, over all ranks together; at most `size`, a multiple of `world_size`.
        iterations: batches in the whole run, those before `start` included.
        seed: of the permutations.
        start: first iteration to yield.
        rank: which slice of each batch this process takes.
        world_size: into how many slices each batch is cut.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        iterations: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        if not 0 < batch_size <= size or batch_size % world_size:
            raise ValueError(f"batches of {batch_size} over {world_size} ranks from {size} images")
        self.size, self.batch_size, self.iterations, self.seed = size, batch_size, iterations, seed
        self.start, self.rank, self.world_size = start, rank, world_size

    def __len__(self) -> int:
        # Of the whole run: Lightning's batch counter starts at `start` too when it resumes.
        return self.iterations

    def __iter__(self) -> Iterator[list[int]]:
        per_epoch = self.size // self.batch_size
        per_rank = self.batch_size // self.world_size
        drawn = None
        for iteration in range(self.start, self.iterations):
            epoch, position = divmod(iteration, per_epoch)
            if epoch != drawn:
                order = torch.randperm(
                    self.size, generator=make_generator("cpu", self.seed, "batches", epoch)
                ).tolist()
                drawn = epoch
            first = position * self.batch_size + self.rank * per_rank
            yield order[first : first + per_rank]
