"""The augmentation T of CSI: colour jitter, greyscale and resized crop, drawn per image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from anomaly_gan.errors import UserError
from anomaly_gan.randomness import RowRng
from anomaly_gan.transforms.color import (
    adjust_contrast,
    adjust_hsv,
    adjust_value,
    luminance,
    per_pixel,
)
from anomaly_gan.transforms.geometry import Resized, choose_windows, crop, gaussian_blur
from anomaly_gan.types import Images

_CROP_TRIALS = 10
"""As in CSI. With its defaults one trial in seven does not fit, ten in a row once in 3e8 images."""

SMALLEST_BLURRED = 224
"""Side in pixels from which images are blurred where nothing else is said: CSI has no blur at 32."""

_HUE_UNIT = 255 / 360
"""CSI's unit of hue in turns: 0.1 is a turn of at most 0.071."""


@dataclass(frozen=True)
class AugmentDraws:
    """The drawn parameters of T, one row per image."""

    jitter: Bool[Tensor, " n"]
    """Whether the colours are jittered."""
    contrast_first: Bool[Tensor, " n"]
    """Whether the contrast is adjusted before hue, saturation and brightness, or after them."""
    brightness: Float[Tensor, " n"]
    """Factor of the HSV value."""
    contrast: Float[Tensor, " n"]
    """Factor of the distance to each channel's mean."""
    saturation: Float[Tensor, " n"]
    """Factor of the HSV saturation."""
    hue: Float[Tensor, " n"]
    """Added to the hue, in turns of the colour circle."""
    gray: Bool[Tensor, " n"]
    """Whether the image is made grey."""
    crop_area: Float[Tensor, "n trials"]
    """Trials of the crop's area as a fraction of the image's; the first that fits the image holds."""
    crop_ratio: Float[Tensor, "n trials"]
    """Trials of the crop's width over its height."""
    crop_position: Float[Tensor, "n 2"]
    """Uniform in [0, 1): where between its extremes the crop lies, (x, y)."""
    blur: Bool[Tensor, " n"]
    """Whether the image is blurred."""
    blur_sigma: Float[Tensor, " n"]
    """Standard deviation of the blur, in pixels."""

    def __len__(self) -> int:
        return len(self.jitter)

    def repeat_rows(self, times: int | torch.SymInt) -> "AugmentDraws":
        """Row 0 for the first `times` images, row 1 for the next, and so on."""
        return self._map(lambda field: repeat_rows(field, times))

    def to(self, target: torch.device | torch.dtype) -> "AugmentDraws":
        """On another device, or with the real-valued parameters in another precision."""
        if isinstance(target, torch.dtype):
            return self._map(lambda field: field.to(target) if field.is_floating_point() else field)
        return self._map(lambda field: field.to(target))

    def _map(self, function: Callable[[Tensor], Tensor]) -> "AugmentDraws":
        return AugmentDraws(*(function(getattr(self, field.name)) for field in fields(self)))


@dataclass(frozen=True)
class Augment:
    """Colour jitter, then greyscale, then resized crop, then blur (as in CSI's released code and SimCLR).

    Apart from the hue (see `adjust_hsv`) and the gradient (CSI's passes through HSV unchanged, this one
    is the derivative) it is CSI's. Images with one channel keep of the colour changes brightness and
    contrast.

    Args:
        crop_scale: range of the crop's area as a fraction of the image's, within (0, 1].
        crop_ratio: range of its width over its height.
        brightness: the factor is uniform in 1 +- this.
        contrast: likewise.
        saturation: likewise.
        hue: the hue turns by at most this, in units of 255/360 of a turn.
        jitter_probability: of jittering brightness, contrast, saturation and hue at all.
        gray_probability: of making the image grey.
        blur: blur half of the images, sigma uniform in 0.1..2 pixels; None: those of 224 pixels and more.
        output_size: side of the result in pixels; None keeps the images' size.
    """

    crop_scale: Sequence[float] = (0.08, 1.0)
    crop_ratio: Sequence[float] = (3 / 4, 4 / 3)
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    jitter_probability: float = 0.8
    gray_probability: float = 0.2
    blur: bool | None = None
    output_size: int | None = None

    def __post_init__(self) -> None:
        for name, bound in (("crop_scale", 1.0), ("crop_ratio", float("inf"))):
            values = getattr(self, name)
            if len(values) != 2 or not 0 < values[0] <= values[1] <= bound:
                raise UserError(
                    f"{name}={list(values)} is no range: give [low, high], 0 < low <= high <= {bound}"
                )
        for name in ("brightness", "contrast", "saturation", "hue", "jitter_probability", "gray_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name}={getattr(self, name)} is out of range: give a number in [0, 1]")
        if self.output_size is not None and self.output_size < 1:
            raise UserError(f"output_size={self.output_size} must be at least 1, or null for the images' own")

    def with_crop_scale(self, scale: float) -> "Augment":
        """The same with crops of that fraction of the image's area, before rounding to pixels."""
        return replace(self, crop_scale=(scale, scale))

    def draw(self, count: int, rng: RowRng) -> AugmentDraws:
        """Parameters for `count` images, on the rng's device."""
        uniform = rng.uniform(count, 11 + 2 * _CROP_TRIALS)
        scalars, area, ratio = uniform.split([11, _CROP_TRIALS, _CROP_TRIALS], dim=1)
        jitter, order, brightness, contrast, saturation, hue, gray, blur, sigma = scalars[:, :9].unbind(1)
        low, high = self.crop_ratio
        return AugmentDraws(
            jitter=jitter < self.jitter_probability,
            contrast_first=order < 0.5,
            brightness=_between(brightness, 1 - self.brightness, 1 + self.brightness),
            contrast=_between(contrast, 1 - self.contrast, 1 + self.contrast),
            saturation=_between(saturation, 1 - self.saturation, 1 + self.saturation),
            hue=_between(hue, -self.hue, self.hue) * _HUE_UNIT,
            gray=gray < self.gray_probability,
            crop_area=_between(area, *self.crop_scale),
            crop_ratio=low * (high / low) ** ratio,  # log-uniform
            crop_position=scalars[:, 9:],
            blur=blur < (0.0 if self.blur is False else 0.5),
            blur_sigma=_between(sigma, 0.1, 2.0),
        )

    def centre(self, count: int) -> AugmentDraws:
        """The middle of T, `count` times: colours as they are, a square crop of mean area from the middle."""
        ones, no = torch.ones(count), torch.zeros(count, dtype=torch.bool)
        return AugmentDraws(
            jitter=no,
            contrast_first=no,
            brightness=ones,
            contrast=ones,
            saturation=ones,
            hue=torch.zeros(count),
            gray=no,
            crop_area=torch.full((count, 1), sum(self.crop_scale) / 2),
            crop_ratio=torch.ones(count, 1),
            crop_position=torch.full((count, 2), 0.5),
            blur=no,
            blur_sigma=ones,
        )

    def blurs(self, side: int) -> bool:
        """Whether images of `side` pixels are blurred, where that is drawn."""
        return bool(self.blur) or (self.blur is None and side >= SMALLEST_BLURRED)

    def __call__(self, images: Images, draws: AugmentDraws) -> Resized:
        """Images under T with one row of `draws` each; [0, 1] in and out.

        Args:
            images: [B, C, H, W], C = 1 or 3.
            draws: B rows, on the images' device.

        Returns:
            [B, C, H, W], or [B, C, output_size, output_size].

        Raises:
            UserError: for another number of channels.
        """
        if images.shape[1] not in (1, 3):
            raise UserError(
                f"images have {images.shape[1]} channels: convert them to RGB (3) or greyscale (1)"
            )
        draws = draws.to(images.dtype)
        result = torch.where(per_pixel(draws.jitter), _jitter(images, draws), images)
        if images.shape[1] == 3:
            result = torch.where(per_pixel(draws.gray), luminance(result), result)
        height, width = images.shape[2:] if self.output_size is None else (self.output_size,) * 2
        windows = choose_windows(draws.crop_area, draws.crop_ratio, draws.crop_position, *images.shape[2:])
        result = crop(result, windows, height, width)
        if self.blurs(min(height, width)):
            result = gaussian_blur(result, draws.blur, draws.blur_sigma)
        return result.clamp_(0, 1)  # rounding alone can leave the range


def _jitter(images: Images, draws: AugmentDraws) -> Images:
    # A factor of 1 changes nothing, so that contrast on both sides, one of them idle, gives both orders.
    result = adjust_contrast(images, torch.where(draws.contrast_first, draws.contrast, 1.0))
    if images.shape[1] == 3:
        result = adjust_hsv(result, draws.hue, draws.saturation, draws.brightness)
    else:
        result = adjust_value(result, draws.brightness)
    return adjust_contrast(result, torch.where(draws.contrast_first, 1.0, draws.contrast))


def _between(uniform: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * uniform


def repeat_rows(values: Tensor, times: int | torch.SymInt) -> Tensor:
    """Every row `times` times, one after the other: [n, ...] -> [n * times, ...].

    `repeat_interleave`, which torch 2.15 exports to ONNX wrongly where `times` is the size of a batch.
    """
    return values.unsqueeze(1).expand(-1, times, *values.shape[1:]).flatten(0, 1)
