"""E, G, D and D' of both families: shapes, sizes, spectral norm, and the blocks against the paper's order."""

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from anomaly_gan.errors import UserError
from anomaly_gan.networks import discriminator, encoder, generator
from anomaly_gan.networks.autoencoders import Family, ResNet, Standard
from anomaly_gan.networks.blocks import SIZES, Down, Judge, Up
from anomaly_gan.networks.latent_discriminator import LatentDiscriminator
from anomaly_gan.networks.modes import batch_norms, frozen

FAMILIES = (ResNet, Standard)
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
JUDGES = ("discriminator", "latent_discriminator")
MAKERS = ("generator", "encoder")


def small(family: type[Family], side: int = 16, channels: int = 1) -> dict[str, nn.Module]:
    return {name: make() for name, make in family(width=8, latent_size=6).build(side, channels).items()}


def weighted(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, LAYERS)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", SIZES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_four_networks_fit_together_at_every_size(family, side: int, channels: int) -> None:
    networks = small(family, side, channels)
    assert list(networks) == ["encoder", "generator", "discriminator", "latent_discriminator"]
    images = networks["generator"](torch.randn(2, 6))
    assert images.shape == (2, channels, side, side)
    latents = networks["encoder"](images)
    assert latents.shape == (2, 6)
    assert networks["discriminator"](images).shape == (2,)
    assert networks["latent_discriminator"](latents).shape == (2,)


@pytest.mark.parametrize("family", FAMILIES)
def test_images_of_g_fill_the_range_from_0_to_1_and_never_leave_it(family) -> None:
    network = small(family)["generator"]
    with torch.no_grad():
        network.body[-1].weight.mul_(1000)
    images = network(torch.randn(16, 6))
    assert images.min() == 0
    assert images.max() == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_e_and_d_work_with_images_from_minus_1_to_1(family) -> None:
    images = torch.rand(2, 1, 16, 16)
    for name in ("encoder", "discriminator"):
        network, seen = small(family)[name], []
        network.body.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        network(images)
        torch.testing.assert_close(seen[0], 2 * images - 1)


SOURCES = {
    "residual_generator": generator.residual_generator,
    "standard_generator": generator.standard_generator,
    "residual_encoder": encoder.residual_encoder,
    "standard_encoder": encoder.standard_encoder,
    "residual_discriminator": discriminator.residual_discriminator,
    "standard_discriminator": discriminator.standard_discriminator,
}


def stated_sizes(make: Callable[..., nn.Module]) -> dict[int, str]:
    """Millions of parameters by the image size, as the docstring has them: "1.05 (16 and 32 pixels), ..."."""
    sizes = {}
    for millions, sides in re.findall(r"(\d+\.\d+) \(([^)]*)\)", make.__doc__ or ""):
        sizes |= {int(side): millions for side in re.findall(r"\d+", sides)}
    return sizes


@pytest.mark.parametrize("name", list(SOURCES))
def test_numbers_of_parameters_are_the_documented_ones_to_the_last_digit(name: str) -> None:
    stated = stated_sizes(SOURCES[name])
    assert list(stated) == list(SIZES)
    rest = () if "discriminator" in name else (128,)
    for side, millions in stated.items():
        with torch.device("meta"):
            count = sum(p.numel() for p in SOURCES[name](side, 3, 64, *rest).parameters())
        decimals = len(millions.partition(".")[2])
        assert f"{count / 1e6:.{decimals}f}" == millions, side


def test_the_latent_discriminator_has_the_documented_number_of_parameters() -> None:
    count = sum(p.numel() for p in LatentDiscriminator(128).parameters())
    assert count == 128 * 512 + 512 + 512 * 512 + 512 + 512 + 1
    assert f"{count / 1e6:.2f}" in LatentDiscriminator.__doc__


def feature_maps(network: nn.Module, layers: Any, inputs: Tensor) -> list[tuple[int, int]]:
    """Channels and side of what each of `layers` gives."""
    maps: list[tuple[int, int]] = []
    for layer in layers:
        layer.register_forward_hook(lambda _, __, output: maps.append((output.shape[1], output.shape[-1])))
    network(inputs)
    return maps


@pytest.mark.parametrize(
    ("side", "of_generator", "of_discriminator"),
    [
        (32, [(256, 8), (256, 16), (256, 32)], [(128, 16), (128, 8), (128, 8), (128, 8)]),
        (
            128,
            [(1024, 8), (512, 16), (256, 32), (128, 64), (64, 128)],
            [(64, 64), (128, 32), (256, 16), (512, 8), (1024, 4), (1024, 4)],
        ),
    ],
)
def test_residual_networks_have_the_papers_blocks(side: int, of_generator, of_discriminator) -> None:
    with torch.device("meta"):
        networks = {name: make() for name, make in ResNet().build(side, 3).items()}
        latents, images = torch.empty(2, 128), torch.empty(2, 3, side, side)

    def blocks(name: str, kind: type[nn.Module]) -> list[nn.Module]:
        return [module for module in networks[name].modules() if isinstance(module, kind)]

    ups = feature_maps(networks["generator"], blocks("generator", Up), latents)
    assert ups == of_generator
    judges = feature_maps(networks["discriminator"], blocks("discriminator", Judge), images)
    assert judges == of_discriminator
    # E's mirror: what comes out of a block of E goes, in reverse, into a block of G.
    downs = feature_maps(networks["encoder"], blocks("encoder", Down), images)
    assert downs[::-1] == [(networks["generator"].bottom.out_features // 16, 4), *of_generator[:-1]]


def test_standard_networks_have_the_papers_layers_at_32_pixels() -> None:
    with torch.device("meta"):
        networks = {name: make() for name, make in Standard().build(32, 3).items()}
        latents, images = torch.empty(2, 128), torch.empty(2, 3, 32, 32)
    assert networks["generator"].bottom.out_features == 4 * 4 * 512

    def convolutions(name: str) -> list[nn.Module]:
        return [m for m in networks[name].modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]

    assert feature_maps(networks["generator"], convolutions("generator"), latents) == [
        (256, 8), (128, 16), (64, 32), (3, 32)
    ]  # fmt: skip
    assert feature_maps(networks["discriminator"], convolutions("discriminator"), images) == [
        (64, 32), (64, 16), (128, 16), (128, 8), (256, 8), (256, 4), (512, 4)
    ]  # fmt: skip
    assert feature_maps(networks["encoder"], convolutions("encoder"), images) == [
        (64, 32), (128, 16), (256, 8), (512, 4)
    ]  # fmt: skip


@pytest.mark.parametrize("name", JUDGES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_of_a_judge_has_a_largest_singular_value_of_one(family, name: str) -> None:
    network = small(family)[name].train()
    layers = weighted(network)
    assert len(layers) == sum(isinstance(m, _SpectralNorm) for m in network.modules())
    for layer in layers:
        with torch.no_grad():
            layer.parametrizations.weight.original.mul_(torch.rand(()) * 5 + 2)  # whatever the weight's size
            for _ in range(150):
                weight = layer.weight  # in training, each use is a step of the power iteration
            assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("family", FAMILIES)
def test_makers_have_batch_norm_and_no_spectral_norm_and_judges_the_reverse(family) -> None:
    networks = small(family)
    for name in MAKERS:
        assert batch_norms(networks[name])
        assert not any(is_parametrized(module) for module in networks[name].modules())
    for name in JUDGES:
        assert not batch_norms(networks[name])
        assert all(is_parametrized(module, "weight") for module in weighted(networks[name]))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_judge_judges_each_input_alone(family) -> None:
    networks = small(family)
    inputs = {"discriminator": torch.rand(5, 1, 16, 16), "latent_discriminator": torch.randn(5, 6)}
    for name in JUDGES:
        network = networks[name].train()
        with frozen([network]):
            together = network(inputs[name])
            alone = torch.cat([network(one[None]) for one in inputs[name]])
        torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
        assert len(together.unique()) == 5


def enlarged(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def pooled(x: Tensor) -> Tensor:
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def with_biases(block: nn.Module) -> nn.Module:
    """Biases start at zero, where adding them before or after a pool is no difference to see."""
    for layer in weighted(block):
        nn.init.normal_(layer.bias)
    return block.double()


def test_up_is_the_papers_block() -> None:
    block, x = with_biases(Up(3, 5)), torch.randn(4, 3, 4, 6, dtype=torch.float64)
    h = block.first(enlarged(torch.relu(block.first_norm(x))))
    h = block.second(torch.relu(block.second_norm(h)))
    torch.testing.assert_close(block(x), h + block.shortcut(enlarged(x)))


def test_down_is_ups_mirror() -> None:
    block, x = with_biases(Down(3, 5)), torch.randn(4, 3, 8, 4, dtype=torch.float64)
    h = block.first(torch.relu(block.first_norm(x)))
    h = block.second(torch.relu(block.second_norm(h)))
    torch.testing.assert_close(block(x), pooled(h) + pooled(block.shortcut(x)))


@pytest.mark.parametrize("first", [False, True])
def test_a_halving_judge_is_the_papers_block(first: bool) -> None:
    block = with_biases(Judge(3, 5, halve=True, first=first))
    x = torch.randn(2, 3, 4, 8, dtype=torch.float64)
    h = block.second(torch.relu(block.first(x if first else torch.relu(x))))
    torch.testing.assert_close(block(x), pooled(h) + pooled(block.shortcut(x)))


@pytest.mark.parametrize("outputs", [3, 5])
def test_a_judge_that_keeps_the_side_has_a_convolution_beside_it_only_for_other_channels(
    outputs: int,
) -> None:
    block = with_biases(Judge(3, outputs, halve=False))
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    beside = x if outputs == 3 else block.shortcut(x)
    torch.testing.assert_close(block(x), block.second(torch.relu(block.first(torch.relu(x)))) + beside)


@pytest.mark.parametrize("name", JUDGES)
def test_freezing_keeps_the_vectors_of_spectral_norm_bit_for_bit_and_passes_gradients(name: str) -> None:
    network = small(ResNet)[name].train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # so that the power iteration has work to do
    before = copy.deepcopy(network.state_dict())
    assert sum("_u" in key or "_v" in key for key in before) == 2 * len(weighted(network))
    inputs = torch.rand((4, 1, 16, 16) if name == "discriminator" else (4, 6), requires_grad=True)
    with frozen([network]):
        network(inputs).sum().backward()
    assert inputs.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(module.training for module in network.modules())
    network(inputs)
    moved = [key for key, value in network.state_dict().items() if not torch.equal(value, before[key])]
    assert moved
    assert all(key.endswith(("_u", "_v")) for key in moved)


def test_freezing_leaves_what_was_in_evaluation_mode_there() -> None:
    network = small(ResNet)["discriminator"].eval()
    with frozen([network]):
        pass
    parametrizations = [m for m in network.modules() if isinstance(m, ParametrizationList | _SpectralNorm)]
    assert parametrizations
    assert not any(module.training for module in parametrizations)


@pytest.mark.parametrize(
    ("data", "generated"), [(16, 16), (24, 16), (28, 16), (32, 32), (63, 32), (64, 64), (224, 128)]
)
def test_images_of_g_are_the_largest_that_are_not_above_the_datas(data: int, generated: int) -> None:
    assert ResNet().side(data) == generated
    assert ResNet(image_size=16).side(data) == 16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "networks.width=0"),
        ({"width": 12}, "networks.width=12"),
        ({"latent_size": 0}, "networks.latent_size=0"),
        ({"image_size": 48}, "networks.image_size=48: give one of 16, 32, 64, 128"),
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_impossible_networks_are_refused_by_name(family, settings: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        family(**settings)


def test_data_smaller_than_any_generator_is_refused_with_the_way_out() -> None:
    with pytest.raises(UserError, match=r"data.image_size=15: .* ablation=csi"):
        Standard().side(15)
