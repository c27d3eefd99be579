"""OCGAN's networks against the published architecture, written out."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anomaly_gan.errors import UserError
from anomaly_gan.networks.ocgan import Decoder, Encoder, LatentDiscriminator, VisualDiscriminator
from anomaly_gan.randomness import RowRng, make_rng


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def of_kind(network: nn.Module, *kinds: type) -> list[nn.Module]:
    return [layer for layer in network.modules() if isinstance(layer, kinds)]


def sides(network: nn.Module, given: Tensor, *kinds: type) -> list[int]:
    """Of the feature maps after each layer of those kinds."""
    found: list[int] = []
    for layer in of_kind(network, *kinds):
        layer.register_forward_hook(lambda *of_call: found.append(of_call[2].shape[-1]))
    network(given)
    return found


def test_feature_maps_have_29_13_5_and_1_pixels_and_back() -> None:
    images, latents = torch.rand(2, 3, 61, 61), torch.rand(2, 128)
    assert sides(Encoder(3, 64, 128), images, nn.Conv2d) == [29, 13, 5, 1]
    assert sides(VisualDiscriminator(3, 12), images, nn.Conv2d) == [29, 13, 5, 1]
    assert sides(Decoder(3, 64, 128).eval(), latents, nn.ConvTranspose2d) == [5, 13, 29, 61]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_numbers_of_parameters_are_those_of_the_layers_counted_by_hand(channels: int) -> None:
    middle = 25 * (64 * 128 + 128 * 256) + 2 * (128 + 256)
    assert count(Encoder(channels, 64, 128)) == (25 * channels * 64 + 64 + middle + 25 * 256 * 128 + 2 * 128)
    assert count(Decoder(channels, 64, 128)) == (
        25 * 128 * 256 + middle + 2 * 64 + 25 * 64 * channels + channels
    )
    for base in (12, 64):
        assert count(VisualDiscriminator(channels, base)) == (
            25 * channels * base + base + 25 * (2 + 8) * base**2 + 2 * 6 * base + 25 * 4 * base + 1
        )
    assert count(LatentDiscriminator(128)) == 129 * 128 + 129 * 64 + 65 * 32 + 33 * 16 + 17


def batch_normalised(x: Tensor, norm: nn.Module) -> Tensor:
    running = None if norm.training else (norm.running_mean, norm.running_var)
    return F.batch_norm(x, *(running or (None, None)), norm.weight, norm.bias, norm.training)


def after_some_training(network: nn.Module) -> nn.Module:
    """In double precision."""
    network.double()
    for norm in of_kind(network, nn.BatchNorm1d, nn.BatchNorm2d):
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.normal_(norm.bias)
    for layer in of_kind(network, nn.Conv2d, nn.ConvTranspose2d, nn.Linear):
        nn.init.normal_(layer.weight, std=0.1)
        if layer.bias is not None:
            nn.init.normal_(layer.bias)
    return network


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_encoder_is_the_published_one(training: bool, channels: int) -> None:
    encoder = after_some_training(Encoder(channels, 8, 6)).train(training)
    images = torch.randn(4, channels, 61, 61, dtype=torch.float64)
    first, second, third, fourth = of_kind(encoder, nn.Conv2d)
    norms = of_kind(encoder, nn.BatchNorm2d)
    x = F.leaky_relu(F.conv2d(images, first.weight, first.bias, stride=2), 0.2)
    for convolution, norm in zip((second, third), norms, strict=True):
        x = F.leaky_relu(batch_normalised(F.conv2d(x, convolution.weight, stride=2), norm), 0.2)
    x = F.conv2d(x, fourth.weight, stride=2).flatten(1)
    torch.testing.assert_close(encoder(images), batch_normalised(x, encoder.norm).tanh())


@pytest.mark.parametrize("channels", [1, 3])
def test_the_decoder_is_the_published_one(channels: int) -> None:
    decoder = after_some_training(Decoder(channels, 8, 6)).eval()
    latents = torch.rand(4, 6, dtype=torch.float64) * 2 - 1
    deconvolutions = of_kind(decoder, nn.ConvTranspose2d)
    x = latents.view(4, 6, 1, 1)
    for deconvolution, norm in zip(deconvolutions, of_kind(decoder, nn.BatchNorm2d), strict=False):
        x = F.relu(batch_normalised(F.conv_transpose2d(x, deconvolution.weight, stride=2), norm))
    last = deconvolutions[3]
    expected = F.conv_transpose2d(x, last.weight, last.bias, stride=2).tanh()
    torch.testing.assert_close(decoder(latents), expected)


def test_half_of_the_decoder_s_last_feature_map_is_dropped_in_training() -> None:
    decoder, seen = Decoder(3, 8, 6).train(), {}
    decoder.norms[2].register_forward_hook(lambda *of_call: seen.update(before=of_call[2].relu()))
    decoder.deconvolutions[3].register_forward_hook(lambda *of_call: seen.update(after=of_call[1][0]))
    decoder(torch.rand(4, 6), RowRng(make_rng("cpu", 0)))
    kept = seen["after"] != 0
    torch.testing.assert_close(seen["after"][kept], 2 * seen["before"][kept])
    assert (kept.sum() / (seen["before"] != 0).sum()).item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("training", [True, False])
def test_the_visual_discriminator_is_the_published_one(training: bool) -> None:
    network = after_some_training(VisualDiscriminator(3, 12)).train(training)
    images = torch.randn(4, 3, 61, 61, dtype=torch.float64)
    first, second, third, fourth = of_kind(network, nn.Conv2d)
    x = F.leaky_relu(F.conv2d(images, first.weight, first.bias, stride=2), 0.2)
    for convolution, norm in zip((second, third), of_kind(network, nn.BatchNorm2d), strict=True):
        x = F.leaky_relu(batch_normalised(F.conv2d(x, convolution.weight, stride=2), norm), 0.2)
    expected = F.conv2d(x, fourth.weight, fourth.bias, stride=2).flatten()
    torch.testing.assert_close(network(images), expected)


def test_the_latent_discriminator_is_the_published_one_with_one_logit() -> None:
    network = after_some_training(LatentDiscriminator(6))
    latents = torch.rand(4, 6, dtype=torch.float64) * 2 - 1
    *hidden, last = of_kind(network, nn.Linear)
    assert [layer.out_features for layer in hidden] == [128, 64, 32, 16]
    x = latents
    for layer in hidden:
        x = (x @ layer.weight.T + layer.bias).clamp_min(0)
    torch.testing.assert_close(network(latents), (x @ last.weight.T + last.bias).squeeze(1))


def test_running_statistics_are_nine_tenths_the_last_batch_s() -> None:
    encoder = Encoder(1, 8, 6).train()
    images = torch.rand(5, 1, 61, 61)
    before = encoder.body(images)
    encoder(images)
    torch.testing.assert_close(encoder.norm.running_mean, 0.9 * before.mean(0))
    torch.testing.assert_close(encoder.norm.running_var, 0.9 * before.var(0) + 0.1)
    assert {norm.momentum for norm in of_kind(Decoder(1, 8, 6), nn.BatchNorm2d)} == {0.9}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Encoder(3, 64, 128),
        lambda: Decoder(3, 64, 128),
        lambda: VisualDiscriminator(3, 64),
        lambda: LatentDiscriminator(128),
    ],
)
def test_the_first_weights_are_the_published_draws(make: Callable[[], nn.Module]) -> None:
    for layer in make().modules():
        weight = getattr(layer, "weight", None)
        if weight is None:
            continue
        middle = 1.0 if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) else 0.0
        spread = 0.02 / weight.numel() ** 0.5
        assert weight.mean().item() == pytest.approx(middle, abs=5 * spread)
        assert weight.std().item() == pytest.approx(0.02, abs=5 * spread)
        assert layer.bias is None or not layer.bias.any()


def test_another_width_is_refused() -> None:
    with pytest.raises(UserError, match=r"width=12: give a multiple of 8"):
        Encoder(1, 12, 6)
