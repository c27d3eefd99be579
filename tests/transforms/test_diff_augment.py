"""What D sees under DiffAugment: each change against loops over the images, given the same draws."""

import numpy as np
import pytest
import torch

from anomaly_gan.randomness import RowRng
from anomaly_gan.transforms.diff_augment import DiffAugment

CHANGES = ["color", "translation", "cutout"]


def rng(seed: int = 0) -> RowRng:
    return RowRng(torch.Generator().manual_seed(seed))


def images(batch: int = 12, channels: int = 3, side: int = 16) -> torch.Tensor:
    return torch.rand(batch, channels, side, side, dtype=torch.float64, generator=rng(9).base)


def test_without_changes_the_images_are_the_same_object_and_nothing_is_drawn() -> None:
    given, draws = images(), rng()
    before = draws.base.get_state()
    assert DiffAugment()(given, draws) is given
    assert torch.equal(draws.base.get_state(), before)


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_is_brightness_then_saturation_then_contrast(channels: int) -> None:
    given = images(channels=channels)
    result = DiffAugment(["color"])(given, rng(1))
    uniform = rng(1).uniform(12, 3).double().T.tolist()
    for n, image in enumerate(given.numpy()):
        brightness, saturation, contrast = (row[n] for row in uniform)
        # In the paper's range [-1, 1]: brightness is added, uniform in +-1/2.
        image = 2 * image - 1 + (brightness - 0.5)
        for i, j in np.ndindex(16, 16):
            grey = sum(image[:, i, j]) / channels
            image[:, i, j] = grey + 2 * saturation * (image[:, i, j] - grey)
        mean = sum(image.flat) / image.size
        image = mean + (contrast + 0.5) * (image - mean)
        np.testing.assert_allclose(result[n].numpy(), (image + 1) / 2, atol=1e-12)


def test_colour_is_affine_in_the_image() -> None:
    one, two = images(4), images(4).flip(0, 3)
    results = [DiffAugment(["color"])(given, rng(1)) for given in (one, two, 0.3 * one + 0.7 * two)]
    torch.testing.assert_close(results[2], 0.3 * results[0] + 0.7 * results[1])


@pytest.mark.parametrize("side", [16, 32])
def test_translation_moves_by_an_eighth_at_most_and_fills_with_grey(side: int) -> None:
    given = images(batch=200, side=side)
    result = DiffAugment(["translation"])(given, rng(1)).numpy()
    furthest = side // 8
    found = set()
    for image, moved in zip(given.numpy(), result, strict=True):
        padded = np.pad(image, ((0, 0), (furthest, furthest), (furthest, furthest)), constant_values=0.5)
        matches = [
            (y, x)
            for y, x in np.ndindex(2 * furthest + 1, 2 * furthest + 1)
            if np.array_equal(padded[:, y : y + side, x : x + side], moved)
        ]
        assert len(matches) == 1
        found |= set(matches)
    # 200 draws of 25 or 81 places: the extremes and the middle of both axes come up.
    for axis in (0, 1):
        assert {place[axis] for place in found} == set(range(2 * furthest + 1))


def holes(side: int = 16) -> torch.Tensor:
    """Where 400 images of zeros were cut, [400, side, side]."""
    result = DiffAugment(["cutout"])(torch.zeros(400, 1, side, side), rng(1))
    assert set(result.unique().tolist()) == {0.0, 0.5}
    return result[:, 0] == 0.5


def test_cutout_makes_one_rectangle_of_each_image_grey_and_keeps_the_rest() -> None:
    given = images(batch=50)
    result = DiffAugment(["cutout"])(given, rng(1))
    for image, cut in zip(given, result, strict=True):
        hole = (cut != image).any(0)
        assert hole.any()
        rows, columns = hole.any(1).nonzero().flatten(), hole.any(0).nonzero().flatten()
        assert len(rows) == rows[-1] - rows[0] + 1
        assert len(columns) == columns[-1] - columns[0] + 1
        assert torch.equal(hole, hole.any(1)[:, None] & hole.any(0)[None])  # nothing left out inside
        assert (cut[:, hole] == 0.5).all()
        assert torch.equal(cut[:, ~hole], image[:, ~hole])


@pytest.mark.parametrize("side", [16, 32, 128])
def test_the_hole_is_half_the_side_and_so_at_most_a_quarter_of_the_area(side: int) -> None:
    found = holes(side)
    assert found.any(2).sum(1).max() == side // 2
    assert found.any(1).sum(1).max() == side // 2
    assert found.double().mean((1, 2)).max() <= 1 / 4


def test_the_hole_may_lie_anywhere_and_reach_over_the_edge() -> None:
    found = holes()
    assert found.any(0).all()
    assert len(found.any(2).sum(1).unique()) > 3


@pytest.mark.parametrize("changes", [["color"], ["translation"], ["cutout"], CHANGES])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_gradient_is_that_of_finite_differences(changes: list[str], channels: int) -> None:
    given = images(2, channels, 8).requires_grad_()
    augment = DiffAugment(changes)
    assert torch.autograd.gradcheck(lambda x: augment(x, rng(3)), (given,))
    (gradient,) = torch.autograd.grad(augment(given, rng(3)).sum(), given)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("changes", [["color"], ["translation"], ["cutout"], CHANGES])
def test_the_same_seed_changes_alike_another_differently_and_every_image_in_its_own_way(changes) -> None:
    augment = DiffAugment(changes)
    alike = torch.rand(1, 3, 16, 16, generator=rng().base).expand(8, -1, -1, -1)
    before = torch.get_rng_state()
    result = augment(alike, rng(1))
    assert torch.equal(result, augment(alike, rng(1)))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(result, augment(alike, rng(2)))
    assert len({tuple(image.flatten().tolist()) for image in result}) > 4
    assert result.shape == alike.shape
    assert result.dtype == alike.dtype


def test_changes_are_made_in_the_order_given() -> None:
    given = images()
    one_by_one, draws = given, rng(1)
    for change in ("cutout", "color"):
        one_by_one = DiffAugment([change])(one_by_one, draws)
    assert torch.equal(DiffAugment(["cutout", "color"])(given, rng(1)), one_by_one)
    assert not torch.equal(DiffAugment(["color", "cutout"])(given, rng(1)), one_by_one)
