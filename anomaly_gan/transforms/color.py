"""Colour adjustments, batched, with one factor per image and the true derivative in the image."""

import torch
from jaxtyping import Float
from torch import Tensor

from anomaly_gan.types import Images

Factors = Float[Tensor, " batch"]
"""One number per image."""

_TINY = 1e-12
"""Keeps quotients finite where a pixel is grey or black; what they are multiplied by is 0 there."""


def per_pixel(factors: Tensor) -> Tensor:
    """[B] -> [B, 1, 1, 1]."""
    return factors.view(-1, 1, 1, 1)


def adjust_contrast(images: Images, factor: Factors) -> Images:
    """Scale the distance to each channel's mean over the image by `factor` >= 0; clamped to [0, 1].

    As in CSI's released code; torchvision and kornia use other centres.
    """
    factor = per_pixel(factor)
    mean = images.mean((2, 3), keepdim=True)
    # One pass over the images, and in place: on the CPU fresh memory costs more than the arithmetic.
    return torch.addcmul((1 - factor) * mean, images, factor).clamp_(0, 1)


def adjust_value(images: Images, factor: Factors) -> Images:
    """Multiply by `factor` >= 0, at most 1: `adjust_hsv` for images without colour."""
    return (images * per_pixel(factor)).clamp(max=1)


def adjust_hsv(
    images: Float[Tensor, "batch 3 height width"], turns: Factors, saturation: Factors, value: Factors
) -> Float[Tensor, "batch 3 height width"]:
    """Turn the hue and scale saturation and value (each at most 1 afterwards) in HSV space.

    HSV is the usual hexcone (`colorsys`), so that turns = 0 and factors of 1 give the image back; CSI's
    released code takes the hue from atan2, whose round trip is off by up to .018.

    Args:
        images: [B, 3, H, W] RGB in [0, 1].
        turns: added to the hue, in turns of the colour circle, in [-1, 1].
        saturation: factor >= 0.
        value: factor >= 0.
    """
    turns, saturation, value = (factor.view(-1, 1, 1) for factor in (turns, saturation, value))
    red, green, blue = images.unbind(1)
    high = torch.maximum(torch.maximum(red, green), blue)
    chroma = high - torch.minimum(torch.minimum(red, green), blue)

    # The hue in sixths of a turn: red at 0, green at 2, blue at 4.
    sector = torch.where(
        high == red,
        green - blue,
        torch.where(high == green, blue - red + 2 * chroma, red - green + 4 * chroma),
    )
    hue = (sector / chroma.clamp(min=_TINY) + 6 * turns) % 6

    # V' = gain * V and C' = V' * S' with S' = min(saturation * C / V, 1): written without dividing by V,
    # so that the derivative at black stays finite.
    gain = torch.minimum(value, 1 / high.clamp(min=_TINY))
    chroma = torch.minimum(saturation * chroma, high)
    low, chroma = gain * (high - chroma), gain * chroma
    # A channel rises from low (two sixths or more from its own hue) to high (one sixth or less).
    channels = [
        torch.addcmul(low, chroma, (((hue - centre).abs() - 3).abs() - 1).clamp(0, 1)) for centre in (0, 2, 4)
    ]
    return torch.stack(channels, 1)


def luminance(
    images: Float[Tensor, "batch 3 height width"],
) -> Float[Tensor, "batch 1 height width"]:
    """The grey value of RGB images by ITU-R BT.601: .299 R + .587 G + .114 B."""
    red, green, blue = images.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue
