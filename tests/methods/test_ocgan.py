"""OCGAN's phases against naive loops: who sees which latents, and where the mined ones go."""

import copy
import math
from collections.abc import Iterator
from itertools import product

import pytest
import torch
from shipped import method_of, step_of

from anomaly_gan.errors import UserError
from anomaly_gan.methods.ocgan import (
    OCGAN,
    autoencoder,
    classifier,
    discriminator,
    latent_discriminator,
)


@pytest.fixture(autouse=True)
def _in_double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(*overrides: str, channels: int = 1, side: int = 16, dropout: float = 0.0) -> OCGAN:
    """Small, with weights that have something to say."""
    small = ("width=8", "scoring.latent_size=4")
    method = method_of("ocgan", *small, *overrides, channels=channels, side=side)
    assert isinstance(method, OCGAN)
    method.train()
    with torch.no_grad():
        for network in method.networks.values():
            for parameter in network.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(5)
    method.scorer.decoder.dropout.rate = dropout
    return method


def images_of(channels: int = 1, side: int = 16, count: int = 4) -> torch.Tensor:
    return torch.rand(count, channels, side, side)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_mean_image_is_that_of_all_normal_images(channels: int) -> None:
    method, images = make(channels=channels), images_of(channels, count=7)
    for _ in range(2):  # what was there before does not count
        method.set_mean(list(images.split(3)))
        torch.testing.assert_close(
            method.scorer.prepared(images).mean(0), torch.zeros_like(method.scorer.mean)
        )
    assert method.scorer.mean.shape == (channels, 61, 61)


def test_the_encoder_sees_noise_of_the_standard_deviation_0_2_and_the_latents_are_uniform() -> None:
    method = make()
    step = step_of(method, images_of(count=64))
    noise = step.noisy - step.images
    assert noise.mean().item() == pytest.approx(0, abs=5 * 0.2 / math.sqrt(noise.numel()))
    assert noise.std().item() == pytest.approx(0.2, rel=5 / math.sqrt(2 * noise.numel()))
    latents = step_of(method, images_of(count=2500)).drawn.tanh().flatten().sort().values
    assert latents.abs().max() < 1
    expected = torch.linspace(-1, 1, len(latents))
    assert (latents - expected).abs().max() < 2 * 1.95 / math.sqrt(len(latents))  # Kolmogorov's test


def test_latents_are_mined_by_one_step_of_size_2_down_the_classifier_s_loss_of_what_is_made() -> None:
    method = make()
    step = step_of(method, images_of(count=3))
    frozen = copy.deepcopy(dict(method.networks))

    def loss(drawn: torch.Tensor) -> float:
        """-log(1 - C(G(tanh))), summed over the images."""
        logits = frozen["classifier"](frozen["decoder"](drawn.tanh()))
        return sum(math.log1p(math.exp(logit)) for logit in logits.tolist())

    expected = step.drawn.clone()
    for i, j in product(range(3), range(4)):
        there, back = step.drawn.clone(), step.drawn.clone()
        there[i, j] += 1e-7
        back[i, j] -= 1e-7
        expected[i, j] -= 2.0 * (loss(there) - loss(back)) / 2e-7
    found = step.mined()
    torch.testing.assert_close(found, expected.tanh(), rtol=1e-5, atol=1e-6)
    assert (found - step.drawn.tanh()).abs().max() > 1e-3
    assert not found.requires_grad


def test_a_small_step_makes_the_classifier_surer_that_what_is_made_is_made() -> None:
    method = make("method.mining_step=0.01")
    step = step_of(method, images_of())
    logits = [
        method.networks["classifier"](step.decoded(latents)).sum()
        for latents in (step.drawn.tanh(), step.mined())
    ]
    assert logits[1] < logits[0]


def test_only_the_decoder_s_game_sees_mined_latents() -> None:
    found = {}
    for size in ("0.0", "2.0"):
        torch.manual_seed(0)
        method = make(f"method.mining_step={size}")
        phases = (discriminator, latent_discriminator, classifier, autoencoder)
        step = step_of(method, torch.rand(4, 1, 16, 16))
        found[size] = {
            f"{phase.__name__} {name}": term.item() for phase in phases for name, term in phase(step).items()
        }
    assert found["0.0"].pop("autoencoder visual") != pytest.approx(found["2.0"].pop("autoencoder visual"))
    assert found["0.0"] == pytest.approx(found["2.0"], rel=1e-12)


def softplus(values: torch.Tensor) -> float:
    """Mean of log(1 + e^x)."""
    return sum(math.log1p(math.exp(value)) for value in values.tolist()) / len(values)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [16, 32, 64])
def test_the_losses_are_those_of_the_paper(channels: int, side: int) -> None:
    method = make("method.mining_step=0.5", channels=channels, side=side)
    method.set_mean([images_of(channels, side)])
    step = step_of(method, images_of(channels, side))
    networks = copy.deepcopy(dict(method.networks))
    latents = step.drawn.tanh()
    encoded = networks["encoder"](step.noisy)
    made, reconstructed = networks["decoder"](latents), networks["decoder"](encoded)
    real = networks["discriminator"](step.images)
    expected = {
        "real": softplus(-real), "made": softplus(networks["discriminator"](made))
    }  # fmt: skip
    assert {k: v.item() for k, v in discriminator(step).items()} == pytest.approx(expected)
    of_drawn, of_encoded = (networks["latent_discriminator"](x) for x in (latents, encoded))
    expected = {"drawn": softplus(-of_drawn), "encoded": softplus(of_encoded)}
    assert {k: v.item() for k, v in latent_discriminator(step).items()} == pytest.approx(expected)
    of_reconstructed, of_made = (networks["classifier"](x) for x in (reconstructed, made))
    expected = {"reconstructed": softplus(-of_reconstructed), "made": softplus(of_made)}
    assert {k: v.item() for k, v in classifier(step).items()} == pytest.approx(expected)
    of_mined = networks["discriminator"](networks["decoder"](step.mined()))
    squares = ((reconstructed - step.images) ** 2).sum().item()
    expected = {
        "pixels": squares / step.images.numel(),
        "visual": softplus(-of_mined),
        "latent": softplus(-of_encoded),
    }
    assert {k: v.item() for k, v in autoencoder(step).items()} == pytest.approx(expected)


def test_the_decoder_s_running_statistics_are_those_of_reconstructions() -> None:
    method = make()
    step = step_of(method, images_of())
    decoder = copy.deepcopy(method.networks["decoder"])
    autoencoder(step)
    found = method.networks["decoder"].norms[0].running_mean.clone()
    encoded = method.networks["encoder"](step.noisy)
    means = [
        decoder.deconvolutions[0](latents[:, :, None, None]).mean((0, 2, 3))
        for latents in (step.drawn.tanh(), step.mined(), encoded)
    ]
    expected = torch.zeros(32)
    for mean in means:
        expected = 0.1 * expected + 0.9 * mean
    torch.testing.assert_close(found, expected)


def test_the_phases_and_weights_are_the_recipe_s() -> None:
    method = method_of("ocgan", side=32, channels=3)
    assert [phase.name for phase in method.plan[0].phases] == [
        "discriminator", "latent_discriminator", "classifier", "autoencoder"
    ]  # fmt: skip
    weights = {name: dict(of.weights) for name, of in method.phase_settings.items()}
    assert weights == {
        "discriminator": {"real": 0.5, "made": 0.5},
        "latent_discriminator": {"drawn": 0.5, "encoded": 0.5},
        "classifier": {"reconstructed": 0.5, "made": 0.5},
        "autoencoder": {"pixels": 10.0, "visual": 1.0, "latent": 1.0},
    }
    channels = {
        name: network.body[0].out_channels
        for name, network in method.networks.items()
        if name in ("encoder", "discriminator", "classifier")
    }
    assert channels == {"encoder": 64, "discriminator": 12, "classifier": 64}
    (group,) = method.recipe("game", "encoder").optimizer(method.parameters()).param_groups
    assert (group["lr"], group["betas"]) == (2e-4, (0.5, 0.999))


@pytest.mark.parametrize("setting", ["noise", "mining_step"])
def test_a_setting_below_0_is_refused(setting: str) -> None:
    with pytest.raises(UserError, match=rf"method\.{setting}=-1.* must be at least 0"):
        make(f"method.{setting}=-1.0")
