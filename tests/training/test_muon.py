"""Muon: a step of a convolution is orthonormal, all other parameters take Adam's."""

import copy

import pytest
import torch
from torch import nn

from anomaly_gan.errors import UserError
from anomaly_gan.networks.feature_extractor import FeatureExtractor
from anomaly_gan.training.muon import orthogonalised
from anomaly_gan.training.optimizers import Muon, set_rate


def network() -> nn.Sequential:
    made = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, 4))
    return made.to(memory_format=torch.channels_last)


def given_gradients(of: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in of.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("shape", [(8, 27), (27, 8), (64, 576), (5, 5)])
def test_an_orthogonalised_matrix_has_the_singular_vectors_of_its_own_and_values_near_one(shape) -> None:
    matrix = torch.randn(shape, dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    inner = left.T @ orthogonalised(matrix) @ right.T
    torch.testing.assert_close(inner, torch.diag(inner.diagonal()), atol=1e-8, rtol=0)
    large = values > 0.01 * matrix.norm()
    assert large.any()
    assert ((inner.diagonal()[large] > 0.65) & (inner.diagonal()[large] < 1.25)).all()


def test_a_gradient_of_zero_moves_no_convolution() -> None:
    assert not orthogonalised(torch.zeros(4, 6)).any()


def test_convolutions_take_nesterovs_momentum_orthogonalised_and_the_rest_adams_steps() -> None:
    recipe = Muon(learning_rate=1e-2, momentum=0.9, step=0.6)
    ours = network()
    reference = copy.deepcopy(ours)
    optimizer = recipe.optimizer(ours.parameters())
    adam = torch.optim.Adam([p for p in reference.parameters() if p.ndim != 4], lr=1e-2)
    convolution = reference[0].weight
    momentum = torch.zeros_like(convolution)
    for seed, rate in enumerate((1e-2, 5e-3, 1e-3)):
        set_rate(optimizer, rate)
        set_rate(adam, rate)
        for of in (ours, reference):
            given_gradients(of, seed)
        optimizer.step()
        adam.step()
        momentum = 0.9 * momentum + convolution.grad
        # The order of the columns makes no difference to the nearest orthonormal matrix.
        direction = orthogonalised((convolution.grad + 0.9 * momentum).flatten(1)).view_as(convolution)
        with torch.no_grad():
            convolution -= rate * 0.6 * 27**0.5 * direction
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name), parameter, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("body", ["resnet18", "vgg7"])
def test_a_step_has_the_root_mean_square_that_is_asked_for(body) -> None:
    of = FeatureExtractor(32, 3, 16, body=body)
    before = {name: parameter.detach().clone() for name, parameter in of.named_parameters()}
    given_gradients(of, 0)
    Muon(learning_rate=1e-3, step=0.6).optimizer(of.parameters()).step()
    for name, parameter in of.named_parameters():
        if parameter.ndim == 4:
            taken = (parameter.detach() - before[name]).square().mean().sqrt().item()
            assert 0.65 * 6e-4 < taken < 1.25 * 6e-4, name
            # In the order of the network's memory, or every step would copy.
            assert parameter.is_contiguous(memory_format=torch.channels_last), name


def test_its_state_is_all_that_it_needs_to_go_on() -> None:
    whole = network()
    parted = copy.deepcopy(whole)
    recipe = Muon()
    one, first = recipe.optimizer(whole.parameters()), recipe.optimizer(parted.parameters())
    for seed in range(2):
        for of, optimizer in ((whole, one), (parted, first)):
            given_gradients(of, seed)
            optimizer.step()
    second = recipe.optimizer(parted.parameters())
    second.load_state_dict(first.state_dict())
    for of, optimizer in ((whole, one), (parted, second)):
        given_gradients(of, 2)
        optimizer.step()
    for a, b in zip(whole.parameters(), parted.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_parameter_without_a_gradient_stays() -> None:
    of = network()
    before = copy.deepcopy(of.state_dict())
    Muon().optimizer(of.parameters()).step()
    assert all(torch.equal(value, before[name]) for name, value in of.state_dict().items())


def test_a_network_without_convolutions_is_trained_by_adam_alone() -> None:
    ours = nn.Linear(3, 2)
    reference = copy.deepcopy(ours)
    for of, optimizer in (
        (ours, Muon(learning_rate=1e-2).optimizer(ours.parameters())),
        (reference, torch.optim.Adam(reference.parameters(), lr=1e-2, fused=True)),
    ):
        given_gradients(of, 0)
        optimizer.step()
    assert torch.equal(ours.weight, reference.weight)


@pytest.mark.parametrize(
    "wrong", [{"momentum": 1.0}, {"momentum": -0.1}, {"step": 0.0}, {"learning_rate": 0.0}]
)
def test_settings_that_cannot_be_are_refused(wrong) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        Muon(**wrong)


def test_a_closure_makes_the_gradients_of_both() -> None:
    ours = network()
    reference = copy.deepcopy(ours)
    optimizer = Muon().optimizer(ours.parameters())

    def closure() -> float:
        given_gradients(ours, 0)
        return 3.0

    assert optimizer.step(closure) == 3.0
    given_gradients(reference, 0)
    Muon().optimizer(reference.parameters()).step()
    for a, b in zip(ours.parameters(), reference.parameters(), strict=True):
        assert torch.equal(a, b)
