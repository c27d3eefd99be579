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
