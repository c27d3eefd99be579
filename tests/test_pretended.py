"""The recorder of waits and copies finds each kind, and nothing where there is none."""

from collections.abc import Callable

import pytest
import torch
from pretended import DEVICES, pretended
from torch import Tensor

from anomaly_gan.randomness import RowRng, make_rng

COSTLY: dict[str, tuple[str, Callable[[Tensor], object]]] = {
    "item": ("sync", lambda x: x.sum().item()),
    "float": ("sync", lambda x: float(x.sum())),
    "if": ("sync", lambda x: 1 if x.sum() > 0 else 0),
    "tolist": ("sync", lambda x: x.tolist()),
    "to the host": ("sync", lambda x: x.cpu()),
    "nonzero": ("sync", lambda x: x.nonzero()),
    "mask": ("sync", lambda x: x[x > 0]),
    "equal": ("sync", lambda x: torch.equal(x, x + 1)),
    "a list": ("host", lambda x: torch.tensor([1.0, 2.0], device=x.device)),
    "new_tensor": ("host", lambda x: x.new_tensor([1.0])),
    "to the device": ("host", lambda x: torch.ones(4).to(x.device)),
    "number": ("host", lambda x: x * torch.tensor(2.0)),
    "rows": ("host", lambda x: x[torch.arange(2)]),
    "copy_": ("host", lambda x: x.copy_(torch.ones(4))),
    "drawn": ("drawn", lambda x: torch.randn(4)),
    "drawn, generator": ("drawn", lambda x: RowRng(make_rng("cpu", 0)).uniform(4, 1)),
    "permutation": ("drawn", lambda x: torch.randperm(4)),
}

FREE: dict[str, Callable[[Tensor], object]] = {
    "arithmetic": lambda x: (x * 2 + 1).sum(),
    "drawn on the device": lambda x: RowRng(make_rng(x.device, 0)).normal(4, 2),
    "filled": lambda x: x.new_full((2,), 3.0),
    "rows of the device": lambda x: x[torch.arange(2, device=x.device)],
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "on the host alone": lambda x: torch.arange(3).sum().item(),
}


ON_CUDA_ALONE = ("a list", "new_tensor")
"""torch copies nothing to a device without memory."""


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", COSTLY)
def test_what_costs_is_found(name: str, device: str) -> None:
    if device == "meta" and name in ON_CUDA_ALONE:
        return
    kind, work = COSTLY[name]
    with pretended(device) as recorder:
        x = torch.empty(4, device=device)
        recorder.found.clear()
        work(x)
    assert kind in {found.kind for found in recorder.found}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", FREE)
def test_what_costs_nothing_is_not_found(name: str, device: str) -> None:
    with pretended(device) as recorder:
        FREE[name](torch.empty(4, device=device))
    assert not recorder.found


@pytest.mark.parametrize("device", DEVICES)
def test_devices_cannot_be_mixed(device: str) -> None:
    with pretended(device), pytest.raises(RuntimeError, match="device"):
        torch.empty(4, device=device) + torch.empty(4)
