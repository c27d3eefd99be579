"""Deep SVDD's networks against the published architecture, written out in numpy; nothing can hide a bias."""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from anomaly_gan.errors import UserError
from anomaly_gan.networks.lenet import LeNet, LeNetDecoder

Array = np.ndarray


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_published_network_has_as_many_parameters_as_the_released_one() -> None:
    assert count(LeNet(32, 3, width=64, embedding_size=128)) == 520_544
    assert count(LeNetDecoder(32, 3, width=64, embedding_size=128)) == 25 * (
        8 * 128 + 128 * 64 + 64 * 32 + 32 * 3
    )


@pytest.mark.parametrize("side", [16, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_every_size_are_embedded_and_decoded(side: int, channels: int) -> None:
    network, decoder = LeNet(side, channels, 16), LeNetDecoder(side, channels, 16)
    embeddings = network(torch.rand(3, channels, side, side))
    assert embeddings.shape == (3, 128)
    made = decoder(embeddings)
    assert made.shape == (3, channels, side, side)
    assert (made > 0).all()
    assert (made < 1).all()


def test_there_is_no_bias_that_could_map_every_image_to_the_centre() -> None:
    network, decoder = LeNet(16, 3, 16), LeNetDecoder(16, 3, 16)
    for name, parameter in [*network.named_parameters(), *decoder.named_parameters()]:
        assert name.endswith("weight")
        assert parameter.ndim > 1  # of convolutions and linear layers, not of batch norm
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        # What is left of the network is not the centre, whose coordinates are away from 0.
        assert torch.equal(network(torch.rand(4, 3, 16, 16)), torch.zeros(4, 128))


def convolved(x: Array, weight: Array) -> Array:
    """[B, C, H, W] with [O, C, 5, 5], padded by two zeros on every side."""
    side = x.shape[2]
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    found = np.zeros((len(x), len(weight), side, side))
    for i in range(5):
        for j in range(5):
            window = padded[:, :, i : i + side, j : j + side]
            found += np.einsum("bchw,oc->bohw", window, weight[:, :, i, j])
    return found


def normalised(x: Array, training: bool, norm: nn.Module) -> Array:
    others = (0, *range(2, x.ndim))
    mean, variance = x.mean(others), x.var(others)
    if not training:
        mean, variance = norm.running_mean.numpy(), norm.running_var.numpy()
    shape = (1, -1, *(1,) * (x.ndim - 2))
    return (x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + 1e-4)


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, 0.01 * x)


def with_statistics(network: nn.Module) -> nn.Module:
    """In double precision, as after some training."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    return network.double()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_encoder_is_the_published_one(training: bool, channels: int) -> None:
    network = with_statistics(LeNet(16, channels, 16, 12)).train(training)
    images = torch.randn(3, channels, 16, 16, dtype=torch.float64)
    x = images.numpy()
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [8, 16, 32]
    for convolution, norm in zip(convolutions, norms, strict=True):
        x = leaky(normalised(convolved(x, convolution.weight.detach().numpy()), training, norm))
        b, c, h, w = x.shape
        x = x.reshape(b, c, h // 2, 2, w // 2, 2).max((3, 5))
    expected = x.reshape(3, -1) @ network.linear.weight.detach().numpy().T
    np.testing.assert_allclose(network(images).detach().numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_decoder_is_the_published_one(training: bool, channels: int) -> None:
    decoder = with_statistics(LeNetDecoder(16, channels, 16, 12)).train(training)
    embeddings = torch.randn(3, 12, dtype=torch.float64)
    deconvolutions = [layer for layer in decoder.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert [layer.in_channels for layer in deconvolutions] == [3, 32, 16, 8]
    first_norm = next(layer for layer in decoder.modules() if isinstance(layer, nn.BatchNorm1d))
    norms = [layer for layer in decoder.modules() if isinstance(layer, nn.BatchNorm2d)]
    x = normalised(embeddings.numpy(), training, first_norm).reshape(3, 3, 2, 2)
    for place, deconvolution in enumerate(deconvolutions):
        x = leaky(x)
        if place:
            x = x.repeat(2, axis=2).repeat(2, axis=3)
        # A transposed convolution of stride 1 is one with the kernel turned by half a turn.
        weight = deconvolution.weight.detach().numpy().transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
        x = convolved(x, weight)
        if place < 3:
            x = normalised(x, training, norms[place])
    expected = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(decoder(embeddings).detach().numpy(), expected, rtol=1e-9, atol=1e-9)


def test_the_first_weights_are_glorot_s_with_leaky_gain_but_those_of_the_linear_layer_torch_s() -> None:
    network, decoder = LeNet(32, 3), LeNetDecoder(32, 3)
    gain = math.sqrt(2 / (1 + 0.01**2))
    for layer in (*network.modules(), *decoder.modules()):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            bound = gain * math.sqrt(6 / (25 * (layer.in_channels + layer.out_channels)))
        elif isinstance(layer, nn.Linear):
            bound = 1 / math.sqrt(layer.in_features)
        else:
            continue
        assert layer.weight.abs().max() <= bound
        assert layer.weight.abs().max().item() == pytest.approx(bound, rel=1e-2)
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LeNet(28, 1), "image_size=28.*multiple of 8"),
        (lambda: LeNet(32, 1, width=24), "width=24.*multiple of 16"),
        (lambda: LeNetDecoder(64, 1, 64, 100), "embedding_size=100.*64 pixels.*multiple of 64"),
    ],
)
def test_what_does_not_fit_is_said_with_the_remedy(make, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make()
    assert not re.search("\n", str(caught.value))
