"""GOAD's losses against naive loops over images and transforms, with the gradient through the batch means."""

import copy
from itertools import pairwise, product

import pytest
import torch
import torch.nn.functional as F
from shipped import method_of, step_of
from torch import Tensor

from anomaly_gan.errors import UserError
from anomaly_gan.methods.goad import GOAD, features, triplet


def naive_triplet(z: Tensor, margin: float, means: Tensor | None = None) -> Tensor:
    """Of z [B, K, D]; the means are those of the batch, the image itself among it, where none are given."""
    if means is None:
        means = torch.stack([sum(z[i, m] for i in range(len(z))) / len(z) for m in range(z.shape[1])])
    total = torch.zeros((), dtype=z.dtype)
    for i, m in product(range(len(z)), range(z.shape[1])):
        distances = [((z[i, m] - mean) ** 2).sum() for mean in means]
        nearest = min(distance for other, distance in enumerate(distances) if other != m)
        total = total + max(torch.zeros((), dtype=z.dtype), distances[m] + margin - nearest)
    return total / (len(z) * z.shape[1])


@pytest.mark.parametrize("margin", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("spread", [0.1, 1.0])
def test_the_triplet_loss_and_its_gradient_are_those_of_the_loops(margin: float, spread: float) -> None:
    z = (torch.randn(4, 5, 3, dtype=torch.float64) * spread).requires_grad_()
    found, expected = triplet(z, z, margin), naive_triplet(z, margin)
    torch.testing.assert_close(found, expected)
    (ours,), (theirs,) = torch.autograd.grad(found, z), torch.autograd.grad(expected, z)
    torch.testing.assert_close(ours, theirs)
    assert ours.abs().max() > 0


def test_the_gradient_flows_through_the_batch_means() -> None:
    z = torch.randn(4, 5, 3, dtype=torch.float64, requires_grad=True)
    (ours,) = torch.autograd.grad(triplet(z, z, 1.0), z)
    (without,) = torch.autograd.grad(naive_triplet(z, 1.0, z.mean(0).detach()), z)
    assert not torch.allclose(ours, without, rtol=0.1)
    # Through them, nothing pulls all features to one side.
    torch.testing.assert_close(ours.sum((0, 1)), torch.zeros(3, dtype=torch.float64))


def test_the_image_itself_counts_in_the_batch_means() -> None:
    z = torch.randn(1, 5, 3)
    own = torch.zeros(5)  # of one image, each mean is its own feature
    others = torch.cdist(z[0], z[0]).square() + torch.diag(torch.full((5,), torch.inf))
    torch.testing.assert_close(triplet(z, z, 0.1), F.relu(own + 0.1 - others.amin(1)).mean())


def test_there_is_nothing_to_gain_once_features_lie_at_their_own_means_by_the_margin() -> None:
    z = torch.eye(4).expand(3, 4, 4)
    assert triplet(z, z, 2.0) == 0.0  # the squared distance of two of them
    assert triplet(z, z, 2.5) == 0.5


@pytest.mark.parametrize(("translations", "channels"), [("false", 1), ("false", 3), ("true", 1)])
def test_the_losses_are_those_of_all_images_under_all_transforms(translations: str, channels: int) -> None:
    overrides = ("width=16", f"scoring.shifts.translations={translations}")
    method = method_of("goad", *overrides, channels=channels)
    assert isinstance(method, GOAD)
    method.double().train()
    images = torch.rand(3, channels, 16, 16, dtype=torch.float64)
    count = method.shifts.count
    assert count == (72 if translations == "true" else 8)
    network = copy.deepcopy(method.networks["network"])  # in training mode: batch norm over all views
    found = features(step_of(method, images))
    views = [method.shifts.single(images, torch.full((3,), m)) for m in range(count)]
    seen = network(torch.cat(views))
    z = torch.stack([seen.features[3 * m : 3 * m + 3] for m in range(count)], dim=1)
    terms = [
        -(seen.logits[3 * m + i] - seen.logits[3 * m + i].logsumexp(0))[m]
        for m, i in product(range(count), range(3))
    ]
    assert found["transform"].item() == pytest.approx(sum(terms).item() / len(terms))
    assert found["triplet"].item() == pytest.approx(naive_triplet(z, 0.1).item())
    assert found["size"].item() == pytest.approx((seen.features**2).mean().item())


def test_the_recipe_is_the_released_one() -> None:
    method = method_of("goad", side=32, channels=3)
    assert isinstance(method, GOAD)
    assert (method.shifts.count, method.margin) == (72, 0.1)
    assert method.phase_settings["features"].weights == {"transform": 1.0, "triplet": 0.1, "size": 10.0}
    recipe = method.recipe("features", "network")
    assert [recipe.rate(progress) for progress in (0.0, 0.5, 1.0)] == [1e-3] * 3
    # WRN-10-4, counted by hand: three blocks, each with two batch norms and a shortcut, and 72 classes.
    widths = [16, 64, 128, 256]
    count = 27 * 16 + 2 * 256 + 257 * 72
    for inputs, outputs in pairwise(widths):
        count += 2 * inputs + 9 * inputs * outputs + 2 * outputs + 9 * outputs**2 + inputs * outputs
    assert sum(p.numel() for p in method.networks.parameters()) == count


def test_a_margin_below_0_is_refused() -> None:
    with pytest.raises(UserError, match=r"method\.margin=-1.* must be at least 0"):
        method_of("goad", "width=16", "method.margin=-1.0")
