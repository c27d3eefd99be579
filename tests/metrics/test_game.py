"""How the games stand, in figures."""

import math

import pytest
import torch

from anomaly_gan.metrics.game import accuracy, diversity, normality_distance


def test_accuracy_is_the_part_that_the_judge_calls_what_they_are() -> None:
    logits = torch.tensor([2.0, 0.1, -0.3, -5.0])
    assert accuracy(logits, real=True) == 0.5
    assert float(accuracy(logits[:3], real=False)) == pytest.approx(1 / 3)


def test_diversity_is_the_root_mean_squared_difference_of_two_images() -> None:
    images = torch.rand(7, 3, 4, 4)
    pairs = [(images[i] - images[j]).square().mean() for i in range(7) for j in range(7) if i != j]
    assert float(diversity(images)) == pytest.approx(float(torch.stack(pairs).mean().sqrt()), rel=1e-5)
    assert diversity(images[:1].repeat(5, 1, 1, 1)) == 0


def test_normal_draws_are_nearer_to_normal_the_more_they_are() -> None:
    few, many = (float(normality_distance(torch.randn(rows, 128))) for rows in (32, 1000))
    assert few == pytest.approx(0.28, abs=0.03)  # what the docstring says
    assert many == pytest.approx(0.06, abs=0.01)


@pytest.mark.parametrize(("mean", "deviation"), [(3.0, 1.0), (0.0, 4.0), (-1.0, 0.5)])
def test_normality_distance_is_the_wasserstein_distance_of_gaussians(mean: float, deviation: float) -> None:
    latents = mean + deviation * torch.randn(20_000, 3)
    closed_form = math.sqrt(mean**2 + (deviation - 1) ** 2)
    assert float(normality_distance(latents)) == pytest.approx(closed_form, abs=0.03)


def test_normality_distance_sees_what_mean_and_variance_do_not() -> None:
    two_points = torch.randint(0, 2, (1000, 8)) * 2.0 - 1.0  # mean 0, variance 1
    assert normality_distance(two_points) > 10 * normality_distance(torch.randn(1000, 8))
