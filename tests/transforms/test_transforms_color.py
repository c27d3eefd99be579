import colorsys

import numpy as np
import pytest
import torch

from anomaly_gan.transforms.color import adjust_contrast, adjust_hsv, adjust_value, luminance

# Every order of the channels, ties, greys and the corners of the colour cube, among them black and white.
LEVELS = (0.0, 0.2, 0.5, 1.0)
PALETTE = torch.tensor([(r, g, b) for r in LEVELS for g in LEVELS for b in LEVELS], dtype=torch.float64)


def naive_hsv(rgb: np.ndarray, turns: float, saturation: float, value: float) -> np.ndarray:
    h, s, v = colorsys.rgb_to_hsv(*rgb)
    return np.array(colorsys.hsv_to_rgb((h + turns) % 1, min(s * saturation, 1), min(v * value, 1)))


def uniform(count: int, low: float, high: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)


def test_hsv_adjustment_is_colorsys_on_every_pixel():
    count = 40
    images = PALETTE.T.reshape(1, 3, 8, 8).repeat(count, 1, 1, 1)
    images[count // 2 :] = torch.rand(count // 2, 3, 8, 8, dtype=torch.float64)
    turns, saturation, value = uniform(count, -1, 1, 0), uniform(count, 0, 2, 1), uniform(count, 0, 2, 2)
    result = adjust_hsv(images, turns, saturation, value)
    for n in range(count):
        factors = turns[n].item(), saturation[n].item(), value[n].item()
        expected = np.apply_along_axis(naive_hsv, 0, images[n].numpy(), *factors)
        np.testing.assert_allclose(result[n].numpy(), expected, atol=1e-12)


def test_hsv_adjustment_by_nothing_gives_the_image_back():
    images, one = PALETTE.T.reshape(1, 3, 8, 8).float(), torch.ones(1)
    torch.testing.assert_close(adjust_hsv(images, 0 * one, one, one), images, atol=1e-6, rtol=0)


def test_gradient_is_finite_where_hue_or_saturation_are_undefined():
    images = PALETTE.T.reshape(1, 3, 8, 8).float().repeat(20, 1, 1, 1).requires_grad_()
    turns, saturation, value = uniform(20, -0.5, 0.5, 0), uniform(20, 0, 2, 1), uniform(20, 0, 2, 2)
    adjust_hsv(images, turns.float(), saturation.float(), value.float()).square().sum().backward()
    assert images.grad.isfinite().all()
    assert images.grad.abs().max() < 100


def test_contrast_scales_the_distance_to_each_channels_mean_and_clamps():
    images, factor = torch.rand(4, 3, 5, 6, dtype=torch.float64), torch.tensor([0.0, 0.6, 1.0, 3.0]).double()
    result = adjust_contrast(images, factor)
    for n in range(4):
        for c in range(3):
            channel = images[n, c].numpy()
            expected = np.clip(channel.mean() + factor[n].item() * (channel - channel.mean()), 0, 1)
            np.testing.assert_allclose(result[n, c].numpy(), expected, atol=1e-12)
    assert (result[3] == 0).any()
    assert (result[3] == 1).any()


def test_value_is_what_hsv_does_to_grey_images():
    gray, factor = torch.rand(5, 1, 4, 4), torch.tensor([0.0, 0.6, 1.0, 1.4, 2.0])
    adjusted = adjust_hsv(gray.repeat(1, 3, 1, 1), torch.full((5,), 0.3), torch.full((5,), 1.3), factor)
    torch.testing.assert_close(adjust_value(gray, factor).expand(-1, 3, -1, -1), adjusted)


def test_luminance_weighs_the_primaries_by_bt601():
    primaries = torch.eye(3).view(3, 3, 1, 1)
    np.testing.assert_allclose(luminance(primaries).flatten().numpy(), [0.299, 0.587, 0.114], rtol=1e-6)


@pytest.mark.parametrize(
    "adjust",
    [
        # Factors on both sides of 1, so that some pixels run into the bounds.
        lambda x: adjust_hsv(x, uniform(4, -0.3, 0.3, 0), uniform(4, 0.5, 2, 1), uniform(4, 0.6, 1.4, 2)),
        lambda x: adjust_contrast(x, uniform(4, 0.5, 2, 3)),
        lambda x: adjust_value(x, uniform(4, 0.5, 2, 4)),
        luminance,
    ],
    ids=["hsv", "contrast", "value", "luminance"],
)
def test_gradient_of_each_colour_adjustment_is_its_derivative(adjust):
    images = torch.rand(4, 3, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    assert torch.autograd.gradcheck(adjust, images.requires_grad_())
