"""Equations 8 and 10 against transcriptions and closed forms."""

import math

import pytest
import torch

from anomaly_gan.losses.reconstruction import dissimilarity, latent_error, pixel_error


def test_equation_8_is_its_transcription() -> None:
    images, made = (torch.rand(3, 2, 4, 5, dtype=torch.float64) for _ in range(2))
    total, count = 0.0, 0
    for image, other in zip(images.flatten(1).tolist(), made.flatten(1).tolist(), strict=True):
        for x, y in zip(image, other, strict=True):
            total, count = total + (x - y) ** 2, count + 1
    assert pixel_error(images, made).item() == pytest.approx(total / count, rel=1e-12)

    one, two = (torch.randn(3, 6, dtype=torch.float64) for _ in range(2))
    similarity = 0.0
    for a, b in zip(one.tolist(), two.tolist(), strict=True):
        norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
        similarity += sum(x * y for x, y in zip(a, b, strict=True)) / norms / 3
    assert dissimilarity(one, two).item() == pytest.approx(-similarity, rel=1e-12)


def test_equation_10_is_its_transcription() -> None:
    latents, recovered = (torch.randn(4, 7, dtype=torch.float64) for _ in range(2))
    total = sum(
        (x - y) ** 2
        for h, found in zip(latents.tolist(), recovered.tolist(), strict=True)
        for x, y in zip(h, found, strict=True)
    )
    assert latent_error(latents, recovered).item() == pytest.approx(total / 28, rel=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (4, 3, 16, 16)])
def test_a_pixel_error_of_one_tenth_everywhere_is_one_hundredth_at_any_size(shape) -> None:
    images = torch.rand(shape)
    assert pixel_error(images, images + 0.1).item() == pytest.approx(0.01, rel=1e-4)


def test_dissimilarity_runs_from_minus_one_alike_to_one_opposite_whatever_the_lengths() -> None:
    embeddings = torch.randn(5, 4, dtype=torch.float64)
    lengths = torch.rand(5, 1, dtype=torch.float64) + 0.1
    assert dissimilarity(embeddings, lengths * embeddings).item() == pytest.approx(-1)
    assert dissimilarity(embeddings, -lengths * embeddings).item() == pytest.approx(1)
    across = torch.eye(4, dtype=torch.float64)
    assert dissimilarity(across, across.roll(1, 0)).item() == pytest.approx(0)


@pytest.mark.parametrize(
    ("loss", "shape"), [(pixel_error, (2, 1, 2, 2)), (dissimilarity, (2, 3)), (latent_error, (2, 3))]
)
def test_a_step_lowers_the_loss_and_the_gradient_is_that_of_finite_differences(loss, shape) -> None:
    target, made = (torch.rand(shape, dtype=torch.float64) for _ in range(2))
    made.requires_grad_()
    assert torch.autograd.gradcheck(loss, (target.clone().requires_grad_(), made))
    before = loss(target, made)
    before.backward()
    assert loss(target, (made - 0.1 * made.grad).detach()) < before
