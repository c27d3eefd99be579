"""Geom's 72 transforms against a transcription of the released code, by scipy and numpy."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy import ndimage

from anomaly_gan.transforms.geometric import Geometric

ORDER = list(product((False, True), (0, -1, 1), (0, -1, 1), range(4)))
"""(flip, tx, ty, turns) of the released code, translations in units of their distance."""


def released(image: np.ndarray, flip: bool, tx: int, ty: int, turns: int) -> np.ndarray:
    """One transform of one image [H, W, C]; tx and ty in pixels.

    Keras' `apply_affine_transform` asks scipy for output[i, j] = input[i + tx, j + ty] with linear
    interpolation, which at whole pixels is a copy.
    """
    if flip:
        image = np.fliplr(image)
    if tx != 0 or ty != 0:
        planes = [
            ndimage.affine_transform(image[..., c], np.eye(2), (tx, ty), order=1, mode="reflect")
            for c in range(image.shape[2])
        ]
        image = np.stack(planes, axis=2)
    return np.rot90(image, turns)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("side", "channels", "distance"), [(32, 3, 8), (16, 1, 4), (64, 1, 16), (18, 2, 4)])
def test_the_72_are_the_released_code_s_in_its_order(
    side: int, channels: int, distance: int, memory_format: torch.memory_format
) -> None:
    images = torch.rand(2, channels, side, side).contiguous(memory_format=memory_format)
    views = Geometric()(images)
    assert views.shape == (72 * 2, channels, side, side)
    for row, view in enumerate(views):
        flip, tx, ty, turns = ORDER[row // 2]
        image = images[row % 2].permute(1, 2, 0).numpy()
        expected = released(image, flip, tx * distance, ty * distance, turns)
        np.testing.assert_array_equal(view.permute(1, 2, 0).numpy(), expected, err_msg=str(ORDER[row // 2]))


def test_a_positive_translation_by_scipy_s_shift_moves_down_and_right() -> None:
    image = torch.rand(1, 1, 32, 32)
    views = Geometric()(image)
    for place, offset in ((4, (0, 8)), (8, (0, -8)), (12, (8, 0)), (24, (-8, 0))):
        expected = ndimage.shift(image[0, 0].numpy(), offset, order=0, mode="reflect")
        np.testing.assert_array_equal(views[place, 0].numpy(), expected)


def test_all_72_are_different_and_the_first_is_the_image_itself() -> None:
    images = torch.rand(1, 1, 16, 16)
    views = Geometric()(images)
    assert len(torch.unique(views.flatten(1), dim=0)) == Geometric().count == 72
    assert torch.equal(views[:1], images)


def test_no_transform_makes_a_value_that_was_not_there() -> None:
    images = torch.rand(1, 3, 16, 16)
    for view in Geometric()(images):
        for plane, source in zip(view, images[0], strict=True):
            assert torch.isin(plane, source).all()


def test_labels_name_the_transform_of_each_row() -> None:
    shifts, images = Geometric(), torch.rand(3, 1, 16, 16)
    labels = shifts.labels(3, "cpu")
    assert labels.dtype == torch.int64
    assert torch.equal(labels, torch.arange(72).repeat_interleave(3))
    assert torch.equal(shifts.single(images.repeat(72, 1, 1, 1), labels), shifts(images))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_images_can_each_have_a_transform_of_their_own(memory_format: torch.memory_format) -> None:
    shifts, images = Geometric(), torch.rand(9, 3, 16, 16).contiguous(memory_format=memory_format)
    labels = torch.randint(72, (9,))
    views = shifts(images).view(72, 9, 3, 16, 16)
    assert torch.equal(shifts.single(images, labels), views[labels, torch.arange(9)])


def test_a_gradient_passes_to_the_pixels_that_are_shown() -> None:
    images = torch.rand(1, 1, 16, 16, requires_grad=True)
    Geometric()(images).sum().backward()
    assert images.grad.sum() == 72 * 16 * 16  # every pixel of every view is one pixel of the image


STEP = {0: 0, 1: 1, 2: -1}
"""The direction of each place: not at all, down or to the right, up or to the left."""


def moved(image: np.ndarray, rows: int, columns: int, border: str) -> np.ndarray:
    """[C, H, W], moved by so many pixels down and to the right."""
    side = image.shape[1]
    padded = np.pad(image, ((0, 0), (side // 2, side // 2), (side // 2, side // 2)), mode=border)
    return np.roll(padded, (rows, columns), (1, 2))[
        :, side // 2 : side // 2 + side, side // 2 : side // 2 + side
    ]


@pytest.mark.parametrize("border", ["symmetric", "reflect"])
@pytest.mark.parametrize(
    ("flips", "translations", "count"),
    [(True, True, 72), (False, True, 36), (True, False, 8), (False, False, 4)],
)
@pytest.mark.parametrize(("side", "channels"), [(16, 1), (32, 3)])
def test_places_say_what_each_shift_does(
    flips: bool, translations: bool, count: int, border: str, side: int, channels: int
) -> None:
    shifts, images = Geometric(flips, translations, border), torch.rand(2, channels, side, side)
    places = shifts.places()
    assert shifts.count == count
    assert places.shape == (count, 4)
    assert len({tuple(place) for place in places.tolist()}) == count
    assert places[0].tolist() == [0, 0, 0, 0]
    views = shifts(images).view(count, 2, channels, side, side)
    for view, (flip, rows, columns, turns) in zip(views, places.tolist(), strict=True):
        for image, found in zip(images.numpy(), view.numpy(), strict=True):
            expected = image[:, :, ::-1] if flip else image
            distance = side // 4
            expected = moved(expected, STEP[rows] * distance, STEP[columns] * distance, border)
            assert np.array_equal(np.rot90(expected, turns, (1, 2)), found)


def test_only_a_translation_shows_which_border_it_is() -> None:
    images = torch.rand(1, 1, 16, 16)
    symmetric, reflect = (Geometric(border=border)(images) for border in ("symmetric", "reflect"))
    still = (Geometric().places()[:, 1:3] == 0).all(1)
    assert torch.equal((symmetric == reflect).all(3).all(2).all(1), still)


@pytest.mark.parametrize("border", ["symmetric", "reflect"])
@pytest.mark.parametrize(("flips", "translations"), [(False, True), (True, False)])
def test_single_images_have_the_same_shifts(flips: bool, translations: bool, border: str) -> None:
    shifts, images = Geometric(flips, translations, border), torch.rand(2, 3, 16, 16)
    labels = shifts.labels(2, "cpu")
    assert torch.equal(shifts.single(images.repeat(shifts.count, 1, 1, 1), labels), shifts(images))
