import colorsys
import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from anomaly_gan.errors import UserError
from anomaly_gan.randomness import RowRng
from anomaly_gan.transforms.augment import Augment, AugmentDraws


def rng(seed: int = 0) -> RowRng:
    return RowRng(torch.Generator().manual_seed(seed))


def row(draws: AugmentDraws, n: int) -> AugmentDraws:
    return AugmentDraws(*(getattr(draws, field.name)[n : n + 1] for field in fields(draws)))


def naive(image: np.ndarray, draws: AugmentDraws, n: int, size: int) -> np.ndarray:
    """T of one image [C, H, W] by loops over its pixels."""
    channels, side, _ = image.shape

    def contrast(image: np.ndarray) -> np.ndarray:
        means = image.mean(axis=(1, 2), keepdims=True)
        return np.clip((image - means) * draws.contrast[n].item() + means, 0, 1)

    def hsv(image: np.ndarray) -> np.ndarray:
        if channels == 1:
            return np.minimum(image * draws.brightness[n].item(), 1)
        result = np.empty_like(image)
        for i, j in np.ndindex(image.shape[1:]):
            h, s, v = colorsys.rgb_to_hsv(*image[:, i, j])
            h = (h + draws.hue[n].item()) % 1
            s = min(s * draws.saturation[n].item(), 1)
            result[:, i, j] = colorsys.hsv_to_rgb(h, s, min(v * draws.brightness[n].item(), 1))
        return result

    if draws.jitter[n]:
        image = hsv(contrast(image)) if draws.contrast_first[n] else contrast(hsv(image))
    if draws.gray[n] and channels == 3:
        image = np.stack([0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]] * 3)

    width = height = side
    for area, ratio in zip(draws.crop_area[n].tolist(), draws.crop_ratio[n].tolist(), strict=True):
        w, h = round(side * math.sqrt(area * ratio)), round(side * math.sqrt(area / ratio))
        if 0 < w <= side and 0 < h <= side:
            width, height = w, h
            break
    left, top = (
        math.floor(uniform * (2 * (side - length) + 1)) / 2
        for uniform, length in zip(draws.crop_position[n].tolist(), (width, height), strict=True)
    )
    result = np.empty((channels, size, size))
    for i, j in np.ndindex(size, size):
        # The window lies inside the image, where reflection repeats the outermost half pixel.
        y = min(max(top + (i + 0.5) * height / size - 0.5, 0), side - 1)
        x = min(max(left + (j + 0.5) * width / size - 0.5, 0), side - 1)
        y0, x0 = min(int(y), side - 2), min(int(x), side - 2)
        patch = image[:, y0 : y0 + 2, x0 : x0 + 2]
        result[:, i, j] = np.array([y0 + 1 - y, y - y0]) @ patch @ np.array([x0 + 1 - x, x - x0])
    return result


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("output_size", [None, 5, 13])
def test_augmentation_is_its_definition_pixel_by_pixel(channels, output_size):
    augment = Augment(output_size=output_size, gray_probability=0.4)
    images = torch.rand(24, channels, 9, 9, dtype=torch.float64, generator=rng().base)
    draws = augment.draw(24, rng(1))
    assert 0 < draws.jitter.sum() < 24
    assert 0 < draws.contrast_first.sum() < 24
    result = augment(images, draws)
    assert result.shape == (24, channels, output_size or 9, output_size or 9)
    for n in range(24):
        expected = naive(images[n].numpy(), draws, n, output_size or 9)
        np.testing.assert_allclose(result[n].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("blur", [False, True])
def test_gradient_of_the_whole_is_its_derivative(channels, blur):
    augment = Augment(blur=blur, output_size=5)
    images = torch.rand(4, channels, 3, 3, dtype=torch.float64, generator=rng().base, requires_grad=True)
    draws = augment.draw(4, rng(1))
    assert draws.jitter.any()
    assert torch.autograd.gradcheck(lambda x: augment(x, draws), images)


@pytest.mark.parametrize("blur", [False, True])
def test_each_image_is_augmented_by_its_own_row_alone(blur):
    augment, images = Augment(blur=blur), torch.rand(12, 3, 24, 24)
    draws = augment.draw(12, rng())
    together = augment(images, draws)
    alone = torch.cat([augment(images[n : n + 1], row(draws, n)) for n in range(12)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


def test_same_seed_same_draws_other_seed_others_and_the_global_generator_untouched():
    before = torch.get_rng_state()
    first, again, other = (Augment(blur=True).draw(50, rng(seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    for field in fields(AugmentDraws):
        assert torch.equal(getattr(first, field.name), getattr(again, field.name))
        assert not torch.equal(getattr(first, field.name), getattr(other, field.name))


@pytest.mark.parametrize("side", [16, 32, 33, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_draws_that_change_nothing_give_the_image_back(side, channels):
    neutral = Augment(
        crop_scale=(1.0, 1.0),
        crop_ratio=(1.0, 1.0),
        brightness=0.0,
        contrast=0.0,
        saturation=0.0,
        hue=0.0,
        jitter_probability=1.0,
        gray_probability=0.0,
    )
    images = torch.rand(8, channels, side, side)
    draws = neutral.draw(8, rng())
    assert draws.jitter.all()
    # grid_sample's own coordinates round to about a millionth of a pixel unless the side is a power of two.
    tolerance = 1e-5 if side == 33 else 1e-6
    torch.testing.assert_close(neutral(images, draws), images, atol=tolerance, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_stay_in_range_under_the_strongest_settings(channels):
    augment = Augment(
        brightness=1.0, contrast=1.0, saturation=1.0, hue=0.5, jitter_probability=1.0, blur=True
    )
    images = torch.rand(64, channels, 24, 24).mul(1.5).sub(0.25).clamp(0, 1)  # much black and white
    result = augment(images, augment.draw(64, rng()))
    assert result.isfinite().all()
    assert result.min() >= 0
    assert result.max() <= 1


def test_gradient_is_finite_on_black_white_grey_and_eight_bit_images():
    images = torch.randint(0, 4, (64, 3, 16, 16)).float() / 3  # ties, black, white and grey everywhere
    images[:3] = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1)
    images.requires_grad_()
    augment = Augment(jitter_probability=1.0)
    augment(images, augment.draw(64, rng())).square().sum().backward()
    assert images.grad.isfinite().all()


def test_channels_last_images_give_the_same_result():
    augment, images = Augment(blur=True), torch.rand(6, 3, 24, 24)
    draws = augment.draw(6, rng())
    result = augment(images.contiguous(memory_format=torch.channels_last), draws)
    torch.testing.assert_close(result, augment(images, draws), atol=1e-6, rtol=0)


def test_draws_follow_their_rates_and_ranges():
    draws = Augment(blur=True).draw(20_000, rng())
    for flags, probability in (
        (draws.jitter, 0.8),
        (draws.contrast_first, 0.5),
        (draws.gray, 0.2),
        (draws.blur, 0.5),
    ):
        assert flags.double().mean().item() == pytest.approx(probability, abs=0.015)  # 4 standard errors
    for factors, low, high in (
        (draws.brightness, 0.6, 1.4),
        (draws.contrast, 0.6, 1.4),
        (draws.saturation, 0.6, 1.4),
        (draws.hue, -0.1 * 255 / 360, 0.1 * 255 / 360),
        (draws.crop_area, 0.08, 1.0),
        (draws.crop_ratio.log(), math.log(3 / 4), math.log(4 / 3)),
        (draws.crop_position, 0.0, 1.0),
        (draws.blur_sigma, 0.1, 2.0),
    ):
        # A uniform law has its mean in the middle and reaches both ends.
        unit = (factors.double() - low) / (high - low)
        assert unit.min().item() == pytest.approx(0, abs=1e-3)
        assert unit.max().item() == pytest.approx(1, abs=1e-3)
        assert unit.mean().item() == pytest.approx(0.5, abs=0.01)


def test_parameters_are_drawn_independently_of_each_other():
    draws = Augment(blur=True).draw(20_000, rng())
    columns = [getattr(draws, field.name).double() for field in fields(draws)]
    table = torch.cat([column.view(len(draws), -1) for column in columns], 1)
    correlation = torch.corrcoef(table.T).fill_diagonal_(0)
    assert correlation.abs().max() < 0.035  # 5 standard errors


@pytest.mark.parametrize(("side", "blurs"), [(223, False), (224, True)])
def test_images_are_blurred_from_224_pixels_on_unless_said_otherwise(side, blurs):
    images = torch.rand(4, 1, side, side)
    draws = replace(Augment(blur=True).draw(4, rng()), blur=torch.tensor([True, True, False, True]))
    assert torch.equal(Augment()(images, draws), Augment(blur=blurs)(images, draws))
    assert not torch.equal(Augment()(images, draws), Augment(blur=not blurs)(images, draws))


def test_no_image_is_blurred_where_blur_is_off():
    assert not Augment(blur=False).draw(100, rng()).blur.any()


def test_fixed_crop_scale_fixes_the_area_and_nothing_else():
    augment = Augment(hue=0.3, output_size=8)
    fixed = augment.with_crop_scale(0.54)
    assert fixed == replace(augment, crop_scale=(0.54, 0.54))
    draws, moving = fixed.draw(100, rng()), augment.draw(100, rng())
    torch.testing.assert_close(draws.crop_area, torch.full((100, 10), 0.54))
    assert torch.equal(draws.hue, moving.hue)
    assert torch.equal(draws.crop_ratio, moving.crop_ratio)


def test_repeated_draws_serve_consecutive_images():
    draws = Augment().draw(3, rng())
    repeated = draws.repeat_rows(4)
    assert len(repeated) == 12
    for n in range(12):
        for field in fields(draws):
            assert torch.equal(getattr(repeated, field.name)[n], getattr(draws, field.name)[n // 4])


@pytest.mark.parametrize("blur", [False, True])
def test_no_step_depends_on_the_values_of_its_input(blur):
    # Fake tensors have a shape and no values: reading one (a host synchronisation on a GPU) raises.
    augment, mode = Augment(blur=blur, output_size=20), FakeTensorMode()
    drawn = augment.draw(4, rng())
    draws = AugmentDraws(*(mode.from_tensor(getattr(drawn, field.name)) for field in fields(drawn)))
    with mode:
        images = torch.rand(4, 3, 24, 24)
        with pytest.raises(DataDependentOutputException):
            images.sum().item()
        assert augment(images, draws).shape == (4, 3, 20, 20)


@pytest.mark.parametrize("channels", [1, 3])
def test_autocast_changes_nothing(channels):
    augment, images = Augment(blur=True), torch.rand(8, channels, 24, 24)
    draws = augment.draw(8, rng())
    with torch.autocast("cpu", torch.bfloat16):
        result = augment(images, draws)
    assert torch.equal(result, augment(images, draws))


def test_other_channel_counts_are_refused_with_the_remedy():
    augment = Augment()
    with pytest.raises(UserError, match="4 channels: convert them to RGB"):
        augment(torch.rand(2, 4, 8, 8), augment.draw(2, rng()))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"crop_scale": (0.5, 0.2)}, "crop_scale"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale"),
        ({"crop_scale": (0.5, 1.5)}, "crop_scale"),
        ({"crop_ratio": (2.0, 1.0)}, "crop_ratio"),
        ({"hue": -0.1}, "hue"),
        ({"jitter_probability": 1.5}, "jitter_probability"),
    ],
)
def test_impossible_settings_are_refused_by_name(setting, message):
    with pytest.raises(UserError, match=message):
        Augment(**setting)
