"""Crop and blur, batched, with one window and one width per image, differentiable in the image."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from anomaly_gan.precision import without_autocast
from anomaly_gan.types import Images

Trials = Float[Tensor, "batch trials"]

Resized = Float[Tensor, "batch channels result_height result_width"]
"""Images of a size of their own."""


@dataclass(frozen=True)
class Windows:
    """Crop windows in pixels, one per image: left and top are the distances from the image's edges."""

    left: Float[Tensor, " batch"]
    top: Float[Tensor, " batch"]
    width: Float[Tensor, " batch"]
    height: Float[Tensor, " batch"]


def choose_windows(
    area: Trials, ratio: Trials, position: Float[Tensor, "batch 2"], image_height: int, image_width: int
) -> Windows:
    """The window of each image: its first trial that fits, the full image if none does.

    The law is that of CSI's released code. It has whole-pixel sizes, and offsets in steps of half a pixel
    (the released code draws whole pixels in units in which the image is two wide).

    Args:
        area: trials of the window's area as a fraction of the image's, [B, trials].
        ratio: trials of its width over its height, in pixels.
        position: uniform in [0, 1): where between its extremes the window lies, (x, y).
        image_height: pixels.
        image_width: pixels.
    """
    pixels = area * (image_height * image_width)
    widths, heights = (pixels * ratio).sqrt().round(), (pixels / ratio).sqrt().round()
    fits = (widths > 0) & (widths <= image_width) & (heights > 0) & (heights <= image_height)
    first = fits.byte().argmax(1, keepdim=True)
    found = fits.any(1)
    width = torch.where(found, widths.gather(1, first).squeeze(1), image_width)
    height = torch.where(found, heights.gather(1, first).squeeze(1), image_height)

    def offset(uniform: Tensor, free: Tensor) -> Tensor:
        return (uniform * (2 * free + 1)).floor() / 2

    return Windows(
        left=offset(position[:, 0], image_width - width),
        top=offset(position[:, 1], image_height - height),
        width=width,
        height=height,
    )


def crop(images: Images, windows: Windows, height: int, width: int) -> Resized:
    """The `windows` of `images`, resampled to [B, C, height, width].

    Bilinear, pixel centres at half-integers (align_corners=False), reflected beyond the edge. Not
    anti-aliased: meant for windows up to about twice the size of the result.
    """

    def coordinates(start: Tensor, length: Tensor, count: int, side: int) -> Tensor:
        # Not F.affine_grid: its matrix product would run in TF32 or bfloat16 where those are on.
        centres = (torch.arange(count, device=images.device, dtype=images.dtype) + 0.5) / count
        return (start[:, None] + length[:, None] * centres) * (2 / side) - 1

    x = coordinates(windows.left, windows.width, width, images.shape[3])
    y = coordinates(windows.top, windows.height, height, images.shape[2])
    grid = torch.stack([x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], dim=3)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def gaussian_blur(images: Images, apply: Bool[Tensor, " batch"], sigma: Float[Tensor, " batch"]) -> Images:
    """Blur the images for which `apply` holds with a Gaussian of `sigma` pixels, reflected at the edges.

    The kernel of SimCLR: its radius is half of a tenth of the side, at least 1.
    """
    batch, channels, height, width = images.shape
    radius = max(min(height, width) // 20, 1)
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernel = (-0.5 * (offsets / sigma[:, None]) ** 2).softmax(1)
    kernel = torch.where(apply[:, None], kernel, (offsets == 0).to(kernel.dtype))
    kernel = kernel.to(images.dtype).repeat_interleave(channels, 0)  # [B*C, taps]
    planes = F.pad(images, (radius, radius, radius, radius), mode="reflect").flatten(0, 1)[None]
    # Autocast would run the convolutions, and hand the images on, in bfloat16.
    with without_autocast(images.device):
        planes = F.conv2d(planes, kernel[:, None, None, :], groups=batch * channels)
        planes = F.conv2d(planes, kernel[:, None, :, None], groups=batch * channels)
    return planes.view(batch, channels, height, width)


def resized(images: Images, side: int) -> Resized:
    """`images` with sides of `side` pixels; themselves where they have it."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
