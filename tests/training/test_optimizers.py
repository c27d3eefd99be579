"""Recipes: their schedules in closed form, and LARS against a transcription."""

import math

import pytest
import torch

from anomaly_gan.training.optimizers import LARS, SGD, Adam


def test_the_papers_adam_is_constant() -> None:
    recipe = Adam()
    optimizer = recipe.optimizer([torch.nn.Parameter(torch.ones(1))])
    assert optimizer.defaults["lr"] == 2e-4
    assert optimizer.defaults["betas"] == (0.9, 0.999)
    assert [recipe.rate(progress) for progress in (0.0, 0.5, 1.0)] == [2e-4] * 3


def test_csis_schedule_rises_tenfold_over_its_first_hundredth_and_falls_along_a_cosine() -> None:
    recipe = LARS(learning_rate=1.0, warmup_fraction=0.01, warmup_start=0.1, decay="cosine")
    assert recipe.rate(0.0) == pytest.approx(0.1)
    assert recipe.rate(0.005) == pytest.approx(0.55)
    assert recipe.rate(0.01) == pytest.approx(1.0)
    for progress in (0.2, 0.505, 0.9):
        expected = (1 + math.cos(math.pi * (progress - 0.01) / 0.99)) / 2
        assert recipe.rate(progress) == pytest.approx(expected)
    assert recipe.rate(1.0) == pytest.approx(0.0, abs=1e-12)


def test_sgd_has_csis_momentum_and_weight_decay() -> None:
    defaults = SGD().optimizer([torch.nn.Parameter(torch.ones(1))]).defaults
    assert (defaults["momentum"], defaults["weight_decay"]) == (0.9, 1e-6)


@pytest.mark.parametrize("decay", [1e-2, 0.0])
def test_lars_scales_each_parameter_by_its_own_trust_ratio(decay: float) -> None:
    # You et al., 2017, as CSI's released code has it: SGD with momentum on the gradient times
    # trust * ||w|| / (||g|| + weight decay * ||w||).
    recipe = LARS(learning_rate=0.5, weight_decay=decay)
    weights = [torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(3))]
    expected = [w.detach().clone() for w in weights]
    velocity = [torch.zeros_like(w) for w in weights]
    optimizer = recipe.optimizer(weights)
    for _ in range(3):
        for i, w in enumerate(weights):
            w.grad = torch.randn_like(w)
            ratio = 0.001 * expected[i].norm() / (w.grad.norm() + decay * expected[i].norm() + 1e-8)
            velocity[i] = 0.9 * velocity[i] + ratio * (w.grad + decay * expected[i])
            expected[i] = expected[i] - 0.5 * velocity[i]
        optimizer.step()
    for w, value in zip(weights, expected, strict=True):
        torch.testing.assert_close(w.detach(), value, rtol=1e-5, atol=1e-6)
