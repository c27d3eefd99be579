"""Tensors without values that pretend to be on a GPU, and a record of where the host waits for one.

torch's FakeTensorMode knows shape, type and device of every operation's result, and refuses to mix devices as
a GPU does. `Recorder` writes down what would cost time there, or could not be recorded as a CUDA graph.

Two devices are pretended. On "cuda" CUDA's autocast rules and fused kernels hold, but a backward pass cannot
run: autograd asks CUDA for a context. There gradients are made up. On "meta", torch's device without memory,
backward passes run as well. What cannot be seen without a GPU: checks inside of kernels, memory, streams, and
whether a graph is in fact recorded.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import anomaly_gan

DEVICES = ("cuda", "meta")

PACKAGE = Path(anomaly_gan.__file__).parent

DRAWS = {"rand", "randn", "randint", "randperm", "bernoulli", "uniform", "normal", "multinomial", "random"}
READS = {"_local_scalar_dense", "item", "is_nonzero", "equal"}
"""What hands a number to the host."""
COUNTS = {"nonzero", "masked_select", "_unique2", "unique_dim"}
"""What has as many rows as the values say, which the host has to know."""
COPIES = {"_to_copy", "copy_"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}


class Found(NamedTuple):
    """Something that a GPU would feel."""

    kind: str
    """sync: the host waits for the device. host: a tensor comes from the host. drawn: random numbers are
    drawn on the host."""
    what: str
    """The operation."""
    where: str
    """The line of the package."""


class Recorder(TorchDispatchMode):
    """Writes down what is `Found`. A number that the host reads is 1."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Found] = []
        self.truth = True  # what the host reads where it asks for a yes or no

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, kwargs = function.overloadpacket.__name__, kwargs or {}
        given = tensors(args, kwargs)
        on_device = any(tensor.device.type != "cpu" for tensor in given)
        if name in READS:
            if on_device:
                self.note("sync", name)
            truth = self.truth if args[0].dtype == torch.bool or name == "equal" else 1
            return float(truth) if args[0].is_floating_point() and name != "equal" else truth
        if name in COUNTS and on_device:
            self.note("sync", name)
        if name in INDEXING and on_device:
            self._look_at_rows([row for row in args[1] if row is not None])
        if name == "nonzero":
            return args[0].new_zeros((1, args[0].dim()), dtype=torch.int64)
        if name in INDEXING and any(row is not None and row.dtype == torch.bool for row in args[1]):
            return args[0].flatten(0, args[1][0].dim() - 1) if name == "index" else args[0]
        if name.startswith("_fused_"):  # optimizers, in place; some know no tensors without values
            assert len({tensor.device.type for tensor in given}) == 1, name
            return None
        result = function(*args, **kwargs)
        self._look_at_result(name, args, given, tensors(result))
        return result

    def _look_at_rows(self, rows: list[Tensor]) -> None:
        if any(row.dtype in (torch.bool, torch.uint8) for row in rows):
            self.note("sync", "a mask as index")
        if any(row.device.type == "cpu" for row in rows):
            self.note("host", "row numbers of the host")

    def _look_at_result(self, name: str, args: Any, given: list[Tensor], made: list[Tensor]) -> None:
        if name in COPIES:
            source, target = (args[1], args[0]) if name == "copy_" else (args[0], made[0])
            if source.device.type != target.device.type:
                self.note("sync" if target.device.type == "cpu" else "host", name)
        elif name.rstrip("_") in DRAWS and made and made[0].device.type == "cpu":
            self.note("drawn", name)
        elif any(tensor.device.type == "cpu" for tensor in given) and any(
            tensor.device.type != "cpu" for tensor in given
        ):
            self.note("host", f"{name} with a number of the host")

    def note(self, kind: str, what: str) -> None:
        """Write down, with the innermost line of the package that led here."""
        frame = sys._getframe(1)
        while frame is not None and PACKAGE not in Path(frame.f_code.co_filename).parents:
            frame = frame.f_back  # type: ignore[assignment]
        file = "" if frame is None else str(Path(frame.f_code.co_filename).relative_to(PACKAGE))
        self.found.append(Found(kind, what, f"{file}:{frame.f_lineno}" if frame else "torch"))


def tensors(*values: Any) -> list[Tensor]:
    """All tensors in nested containers."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


class Generator(torch.Generator):
    """In place of a torch.Generator of a device that is not there; it draws nothing."""

    device: torch.device = torch.device("cpu")

    def __new__(cls, device: str | torch.device) -> "Generator":
        made: Generator = super().__new__(cls)
        made.device = torch.device(device)
        return made

    def manual_seed(self, seed: int) -> "Generator":
        """As torch's: takes a seed, gives itself back."""
        return self


def _drawing(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`torch.rand` and its like, which take a `Generator` for its own device alone, as torch does."""

    def drawn(*shape: Any, generator: Any = None, device: Any = None, **others: Any) -> Tensor:
        if isinstance(generator, Generator):
            assert torch.device(device or "cpu").type == generator.device.type
            generator = None
        return draw(*shape, generator=generator, device=device, **others)

    return drawn


@contextmanager
def pretended(device: str) -> Iterator[Recorder]:
    """Inside, `device`, of `DEVICES`, seems to be there, and its tensors have no values."""
    generator, autocast, gradient = torch.Generator, torch.autocast, torch.autograd.grad

    class Autocast(autocast):  # type: ignore[misc, valid-type]
        def __init__(self, of: str, *args: Any, **kwargs: Any):
            super().__init__("cpu", enabled=False) if of == "meta" else super().__init__(of, *args, **kwargs)

    class EitherGenerator:  # a class, for annotations of modules that are imported inside
        def __new__(cls, of: Any = "cpu") -> Any:
            return generator(of) if torch.device(of).type == "cpu" else Generator(of)

    def made_up(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        return tuple(map(torch.zeros_like, [inputs] if isinstance(inputs, Tensor) else inputs))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "Generator", EitherGenerator)
        patch.setattr(torch, "autocast", Autocast)
        patch.setattr(torch.autograd, "grad", made_up if device == "cuda" else gradient)
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
        for name in ("rand", "randn"):
            patch.setattr(torch, name, _drawing(getattr(torch, name)))
        fused = sys.modules[torch.optim.Optimizer.__module__]
        patch.setattr(fused, "_get_fused_kernels_supported_devices", lambda: list(DEVICES))
        one_thread = torch.autograd.set_multithreading_enabled(False)
        with one_thread, FakeTensorMode(allow_non_fake_inputs=True), Recorder() as recorder:
            yield recorder


def move(module: nn.Module, device: str) -> None:
    """`module.to(device)` inside of `pretended`: torch's own cannot replace values by none."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                moved = torch.empty_like(parameter.detach(), device=device)
                part._parameters[name] = nn.Parameter(moved, parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty_like(buffer, device=device)
        if hasattr(part, "_device"):  # Lightning's
            part._device = torch.empty(0, device=device).device


@contextmanager
def half_precision(device: str) -> Iterator[None]:
    """Autocast as Lightning sets it around a training step of `bf16-mixed`, where `device` knows it."""
    if device != "cuda":
        yield
        return
    with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        yield
