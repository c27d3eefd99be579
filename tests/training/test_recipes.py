"""Schedules in closed form, optimizers against naive loops."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy import ndarray
from torch import Tensor

from anomaly_gan.errors import UserError
from anomaly_gan.training.optimizers import SGD, Adam, Recipe

STEPS = 20

CURVATURE = np.array([3.0, 0.5, 0.01])
"""Of the loss, half the sum of it times w^2, less the sum of w. Its gradient: curvature * w - 1."""


def gradient(w: ndarray) -> ndarray:
    return CURVATURE * w - 1


def trained(recipe: Recipe, loss: Callable[[Tensor], Tensor]) -> ndarray:
    """Three weights of which the first is 1, after `STEPS` steps."""
    weights = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    optimizer = recipe.optimizer([weights])
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(weights).backward()
        optimizer.step()
    return weights.detach().numpy()


def plain(w: Tensor) -> Tensor:
    return (torch.from_numpy(CURVATURE) * w.square() / 2 - w).sum()


def by_hand(move: Callable[[ndarray, int], ndarray]) -> ndarray:
    """The same, each step by `move`: from the weights and the step's number, from 1, to the change."""
    w = np.array([1.0, -2.0, 0.5])
    for step in range(1, STEPS + 1):
        w = w + move(w, step)
    return w


def test_a_rate_is_a_tenth_from_each_milestone_on() -> None:
    recipe = Adam(learning_rate=2.0, milestones=[0.5, 0.75])
    rates = [recipe.rate(progress) for progress in (0.0, 0.49, 0.5, 0.74, 0.75, 1.0)]
    assert rates == pytest.approx([2, 2, 0.2, 0.2, 0.02, 0.02])
    falling = SGD(learning_rate=2.0, decay="cosine", milestones=[0.5], warmup_fraction=0.2, warmup_start=0.5)
    assert falling.rate(0.1) == pytest.approx(2 * 0.75)
    assert falling.rate(0.6) == pytest.approx(2 * (1 + math.cos(math.pi * 0.5)) / 2 / 10)


@pytest.mark.parametrize("epsilon", [1e-8, 0.3])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_adam_is_kingma_and_bas_with_the_squared_weights_in_the_loss(epsilon: float, decay: float) -> None:
    recipe = Adam(learning_rate=0.1, betas=(0.8, 0.95), epsilon=epsilon, weight_decay=decay)
    first, second = np.zeros(3), np.zeros(3)

    def move(w: ndarray, step: int) -> ndarray:
        nonlocal first, second
        g = gradient(w) + decay * w
        first, second = 0.8 * first + 0.2 * g, 0.95 * second + 0.05 * g**2
        unbiased = first / (1 - 0.8**step), second / (1 - 0.95**step)
        return -0.1 * unbiased[0] / (np.sqrt(unbiased[1]) + epsilon)

    expected = by_hand(move)
    np.testing.assert_allclose(trained(recipe, plain), expected, rtol=1e-10)
    without = Adam(learning_rate=0.1, betas=(0.8, 0.95), epsilon=epsilon)
    with_squares = trained(without, lambda w: plain(w) + decay / 2 * w.square().sum())
    np.testing.assert_allclose(with_squares, expected, rtol=1e-10)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_has_momentum_and_looks_ahead_where_it_is_nesterovs(nesterov: bool) -> None:
    recipe = SGD(learning_rate=0.05, momentum=0.9, nesterov=nesterov, weight_decay=0.5)
    velocity = np.zeros(3)

    def move(w: ndarray, step: int) -> ndarray:
        nonlocal velocity
        g = gradient(w) + 0.5 * w
        velocity = 0.9 * velocity + g
        return -0.05 * (g + 0.9 * velocity if nesterov else velocity)

    np.testing.assert_allclose(trained(recipe, plain), by_hand(move), rtol=1e-10)


@pytest.mark.parametrize(
    ("make", "settings", "word"),
    [
        (Adam, {"milestones": [0.5, 1.0]}, r"milestones=\[0.5, 1.0\]"),
        (Adam, {"milestones": [0.0]}, r"milestones=\[0.0\]"),
        (Adam, {"epsilon": -1e-8}, "epsilon=-1e-08"),
        (Adam, {"weight_decay": -1.0}, "weight_decay=-1"),
        (Adam, {"weight_decay": math.nan}, "weight_decay=nan"),
        (SGD, {"momentum": -0.1}, "momentum=-0.1"),
        (SGD, {"weight_decay": -1.0}, "weight_decay=-1"),
        (SGD, {"nesterov": True, "momentum": 0.0}, "nesterov=true needs a momentum"),
    ],
)
def test_what_no_optimizer_can_use_is_refused_in_a_line(
    make: type[Recipe], settings: dict[str, object], word: str
) -> None:
    with pytest.raises(UserError, match=word) as refused:
        make(**settings)
    assert "\n" not in str(refused.value)
