"""The moving average of a network's weights is torch's."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from anomaly_gan.networks.average import MovingAverage


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.6, 0.999])
def test_it_is_torch_s_to_the_bit_with_its_names(decay: float) -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
    theirs = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    ours = MovingAverage(network, decay)
    for _ in range(4):
        network(torch.rand(4, 3, 8, 8))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_()
        ours.update_parameters(network)
        theirs.update_parameters(network)
        found, expected = ours.state_dict(), theirs.state_dict()
        assert list(found) == list(expected)
        assert all(torch.equal(found[name], value) for name, value in expected.items())
