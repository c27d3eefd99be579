"""Networks are compiled where they are trained, and nowhere else."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from anomaly_gan.networks.modes import compile_each


def test_a_compiled_network_is_not_compiled_anew_for_the_sizes_of_an_evaluation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = []

    def compiled(function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        def call(values: torch.Tensor) -> Any:
            sizes.append(len(values))
            return function(values)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    network = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5))
    names = list(network.state_dict())
    compile_each([network])
    assert list(network.state_dict()) == names
    network.train()
    network(torch.ones(4, 2))
    network.eval()
    for size in (1, 5, 7):
        assert network(torch.ones(size, 2)).shape == (size, 3)
    network.train()
    network(torch.ones(6, 2))
    assert sizes == [4, 6]
