"""Batch norm over the rows of two processes is that of all rows in one."""

import pytest
import torch
from torch import Tensor, nn

from anomaly_gan import distributed
from anomaly_gan.distributed import synchronise_batch_norm


@pytest.mark.parametrize("first", [4, 6])
def test_two_uneven_shares_give_the_whole_batch_s_values_gradients_and_statistics(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    whole = nn.BatchNorm2d(3).double()
    with torch.no_grad():
        whole.weight.normal_()
        whole.bias.normal_()
    shared = nn.BatchNorm2d(3).double()
    shared.load_state_dict(whole.state_dict())
    synchronise_batch_norm(shared)
    # A mean far from zero, of which a mean of squares would lose the variance.
    images = 1000 + 0.01 * torch.rand(7, 3, 4, 4, dtype=torch.float64)
    weights = torch.randn_like(images)
    parts = [images[:first], images[first:]]
    inputs = [part.clone().requires_grad_() for part in parts]
    told: list[Tensor] = []

    def tell(row: Tensor, sizes: list[int]) -> Tensor:
        told.append(row)
        raise InterruptedError  # it waits for the other process's

    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "gather", tell)
    for part in inputs:
        with pytest.raises(InterruptedError):
            shared(part)
    monkeypatch.setattr(distributed, "gather", lambda row, sizes: torch.cat(told))
    found = [shared(inputs[0])]
    statistics = {name: buffer.clone() for name, buffer in shared.named_buffers()}
    found.append(shared(inputs[1]))
    all_images = images.clone().requires_grad_()
    expected = whole(all_images)
    (torch.cat(found) * weights).sum().backward()
    (expected * weights).sum().backward()
    close = {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(torch.cat(found), expected, **close)
    torch.testing.assert_close(torch.cat([part.grad for part in inputs]), all_images.grad, **close)
    for name, parameter in whole.named_parameters():
        torch.testing.assert_close(dict(shared.named_parameters())[name].grad, parameter.grad, **close)
    torch.testing.assert_close(statistics, dict(whole.named_buffers()), **close)
