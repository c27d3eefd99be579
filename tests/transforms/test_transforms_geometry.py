import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import ks_2samp

from anomaly_gan.transforms.geometry import Windows, choose_windows, crop, gaussian_blur

SIDE = 32


def reflect(x: float, side: int) -> float:
    while not -0.5 <= x <= side - 0.5:
        x = -1 - x if x < -0.5 else 2 * side - 1 - x
    return min(max(x, 0.0), side - 1.0)


def naive_crop(plane: np.ndarray, left, top, width, height, rows: int, columns: int) -> np.ndarray:
    result = np.empty((rows, columns))
    for i in range(rows):
        for j in range(columns):
            y = reflect(top + (i + 0.5) * height / rows - 0.5, plane.shape[0])
            x = reflect(left + (j + 0.5) * width / columns - 0.5, plane.shape[1])
            y0, x0 = math.floor(y), math.floor(x)
            y1, x1 = min(y0 + 1, plane.shape[0] - 1), min(x0 + 1, plane.shape[1] - 1)
            upper = plane[y0, x0] * (x0 + 1 - x) + plane[y0, x1] * (x - x0)
            lower = plane[y1, x0] * (x0 + 1 - x) + plane[y1, x1] * (x - x0)
            result[i, j] = upper * (y0 + 1 - y) + lower * (y - y0)
    return result


def random_windows(count: int, scale=(0.08, 1.0), trials: int = 10) -> Windows:
    generator = torch.Generator().manual_seed(0)
    area = scale[0] + (scale[1] - scale[0]) * torch.rand(count, trials, generator=generator)
    ratio = 0.75 * (16 / 9) ** torch.rand(count, trials, generator=generator)
    return choose_windows(area, ratio, torch.rand(count, 2, generator=generator), SIDE, SIDE)


def test_windows_have_whole_pixel_sizes_and_lie_inside_the_image():
    windows = random_windows(20_000)
    for start, length in ((windows.left, windows.width), (windows.top, windows.height)):
        assert torch.equal(length, length.round())
        assert length.min() >= 1
        assert start.min() == 0
        assert torch.equal(2 * start, (2 * start).round())
        assert (start + length).max() == SIDE


def test_window_sizes_follow_rejection_sampling():
    # The law by its definition: try until a trial fits.
    rng, expected = np.random.default_rng(0), []
    while len(expected) < 20_000:
        area = rng.uniform(0.08, 1) * SIDE**2
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= SIDE and 0 < height <= SIDE:
            expected.append((width, height))
    width, height = np.array(expected, dtype=float).T
    windows = random_windows(20_000)
    ours_width, ours_height = windows.width.double().numpy(), windows.height.double().numpy()
    for ours, theirs in (
        (ours_width, width),
        (ours_height, height),
        (ours_width * ours_height, width * height),
        (ours_width / ours_height, width / height),
    ):
        assert ks_2samp(ours, theirs).pvalue > 1e-3
        assert ours.mean() == pytest.approx(theirs.mean(), rel=0.02)


def test_offsets_are_uniform_in_half_pixels_over_the_free_space():
    uniform = torch.arange(0, 1, 1 / 1700)
    ones = torch.ones(len(uniform), 1)
    windows = choose_windows(
        ones * 0.25, ones, torch.stack([uniform, 1 - uniform - 1e-7], 1).clamp(0, 1 - 2**-24), 16, 16
    )
    values, counts = windows.left.unique(return_counts=True)
    assert values.tolist() == [step / 2 for step in range(17)]  # 16 - 8 free pixels
    assert counts.min() >= 99
    assert windows.top.max() == 8


def test_the_largest_uniform_stays_inside_the_image():
    last = torch.full((1, 2), 1 - 2**-24)
    for side in range(2, 300):
        area = torch.full((1, 1), 1 / side**2)  # a window of one pixel
        windows = choose_windows(area, torch.ones(1, 1), last, side, side)
        assert (windows.width.item(), windows.left.item(), windows.top.item()) == (1, side - 1, side - 1)


def test_first_fitting_trial_is_taken_and_the_full_image_if_none_fits():
    area = torch.tensor([[0.9, 0.25, 0.5], [0.9, 0.9, 0.9]])
    ratio = torch.tensor([[4.0, 1.0, 1.0], [4.0, 0.25, 4.0]])
    windows = choose_windows(area, ratio, torch.zeros(2, 2), 16, 16)
    assert windows.width.tolist() == [8, 16]
    assert windows.height.tolist() == [8, 16]


@pytest.mark.parametrize("size", [(5, 7), (3, 4), (9, 11)])
def test_crop_is_bilinear_sampling_with_reflection(size):
    images = torch.rand(4, 2, 5, 7, dtype=torch.float64)
    # The full image, one inside, one touching the far edges, one reaching beyond both (reflection).
    rows = [(0, 0, 7, 5), (1.5, 0.5, 3, 2), (5, 3.5, 2, 1.5), (-2, -1, 12, 8)]
    left, top, width, height = torch.tensor(rows, dtype=torch.float64).T
    result = crop(images, Windows(left, top, width, height), *size)
    assert result.shape == (4, 2, *size)
    for n in range(4):
        for c in range(2):
            expected = naive_crop(images[n, c].numpy(), *rows[n], *size)
            np.testing.assert_allclose(result[n, c].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("side", [20, 50])
def test_blur_is_a_gaussian_filter_of_a_tenth_of_the_side(side):
    images = torch.rand(3, 2, side, side, dtype=torch.float64)
    sigma = torch.tensor([0.1, 0.7, 2.0], dtype=torch.float64)
    result = gaussian_blur(images, torch.ones(3, dtype=torch.bool), sigma)
    for n in range(3):
        for c in range(2):
            # Mode "mirror" does not repeat the edge; 20 -> 1 pixel to each side, 50 -> 2.
            expected = gaussian_filter(
                images[n, c].numpy(), sigma[n].item(), mode="mirror", radius=side // 20
            )
            np.testing.assert_allclose(result[n, c].numpy(), expected, atol=1e-12)


def test_blur_leaves_the_other_images_alone():
    images = torch.rand(4, 3, 30, 30)
    apply = torch.tensor([True, False, True, False])
    result = gaussian_blur(images, apply, torch.full((4,), 1.5))
    assert torch.equal(result[~apply], images[~apply])
    assert ((result - images)[apply].abs().amax((1, 2, 3)) > 0.1).all()


def test_gradient_of_crop_and_blur_is_their_derivative():
    images = torch.rand(2, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    windows = Windows(*torch.tensor([[0.5, 1], [0, 2], [3, 4], [5, 2]], dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda x: crop(x, windows, 4, 6), images)
    apply, sigma = torch.tensor([True, False]), torch.tensor([0.8, 1.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: gaussian_blur(x, apply, sigma), images)
