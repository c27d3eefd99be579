"""What several processes tell each other, so that together they compute what one would.

Every process holds the same weights and a part of each batch (`sharding.Shard`). With one process, every
function here gives back what it is given.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def gather(rows: Float[Tensor, "own *row"], sizes: Sequence[int]) -> Float[Tensor, "all *row"]:
    """The rows of all processes, in the order of their ranks, with gradient.

    The gradient is the sum of those of all processes, for each of their losses hangs on every row.

    Args:
        rows: this process's.
        sizes: how many each process has.
    """
    return rows if len(sizes) == 1 else _Gather.apply(rows, tuple(sizes))


def gather_unknown(rows: Float[Tensor, "own *row"]) -> Float[Tensor, "all *row"]:
    """The same without gradient, where no process knows how many rows the others have."""
    if world_size() == 1:
        return rows
    sizes = torch.zeros(world_size(), dtype=torch.int64, device=rows.device)
    sizes[rank()] = len(rows)
    dist.all_reduce(sizes)
    return gather(rows.detach(), sizes.tolist())


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: tuple[int, ...]) -> Tensor:
        first = sum(sizes[: rank()])
        ctx.own = slice(first, first + sizes[rank()])
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])  # messages are of one length
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total[ctx.own], None


def average_(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over the processes; tensors of one type, in one message."""
    if world_size() == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    parts = (flat / world_size()).split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view(tensor.shape))


def mean_of_rows(batches: Iterable[Tensor]) -> Tensor:
    """The mean over the rows of all batches of all processes, one row at least; added up in float64."""
    sums, counts = [], []
    for batch in batches:
        sums.append(batch.sum(0, dtype=torch.float64))
        counts.append(len(batch))
    total = torch.stack(sums).sum(0)
    count = total.new_tensor([float(sum(counts))])
    average_([total, count])
    return (total / count).to(batch.dtype)


def agreed(value: Any) -> Any:
    """What process 0 says, where it hangs on a clock or a file."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def largest(*values: int) -> list[int]:
    """Of each value the largest of what the processes say; it waits for them and for the device."""
    if world_size() == 1:
        return list(values)
    box = torch.tensor(values, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(box, dist.ReduceOp.MAX)
    told: list[int] = box.tolist()
    return told


def leave() -> None:
    """Wait for all processes and part from them.

    One that ends before the others can tear them down; and one that ends without having parted can be aborted
    by gloo's threads, which free their last tensors while the interpreter ends (pytorch/pytorch#179291).
    """
    if world_size() > 1:
        dist.barrier()
        dist.destroy_process_group()


class SynchronisedBatchNorm(_BatchNorm):
    """Batch norm over the rows of all processes, on any device.

    torch's own SyncBatchNorm refuses the CPU, and on a GPU it lets the host wait in every layer.
    """

    momentum: float

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions will do."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x = input.to(self.get_buffer("running_mean").dtype)
        others = [0, *range(2, x.ndim)]
        shape = [1, -1, *(1 for _ in others[1:])]
        own_variance, own_mean = torch.var_mean(x, others, correction=0)
        count = x.new_full((1,), x.numel() // self.num_features)
        told = gather(torch.cat([count, own_mean, own_variance])[None], [1] * world_size())
        counts, means, variances = told.split([1, self.num_features, self.num_features], dim=1)
        rows = counts.sum()
        share = counts / rows
        mean = (share * means).sum(0)
        # Not a mean of squares less a squared mean, which would lose a small variance.
        variance = (share * (variances + (means - mean).square())).sum(0)
        if self.track_running_stats:
            with torch.no_grad():
                self.get_buffer("num_batches_tracked").add_(1)
                self.get_buffer("running_mean").lerp_(mean, self.momentum)
                self.get_buffer("running_var").lerp_(variance * rows / (rows - 1), self.momentum)
        centred = x - mean.view(shape)
        scale = (variance + self.eps).rsqrt()
        if not self.affine:
            return (centred * scale.view(shape)).to(input.dtype)
        return (centred * (self.weight * scale).view(shape) + self.bias.view(shape)).to(input.dtype)


def synchronise_batch_norm(network: nn.Module) -> None:
    """From now on batch norm looks at the rows of all processes; parameters and buffers stay the same."""
    for module in network.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
            module.local_class = type(module)  # type: ignore[assignment]
            module.__class__ = SynchronisedBatchNorm


def localise_batch_norm(network: nn.Module) -> None:
    """Take `synchronise_batch_norm` back."""
    for module in network.modules():
        if isinstance(module, SynchronisedBatchNorm):
            module.__class__ = module.local_class  # type: ignore[assignment]
