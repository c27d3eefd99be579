"""What defects are drawn with: random numbers, a frame to measure in, and what changes pixels."""

from dataclasses import dataclass
from math import log, pi

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from anomaly_gan.transforms.crops import windows
from anomaly_gan.types import Images

NUMBERS = 12
"""Uniform random numbers that a defect is made from."""

Cover = Float[Tensor, "batch height width"]
"""How much of each pixel a defect covers, in [0, 1]."""


class Drawn:
    """The uniform numbers of one defect of each image, taken one after the other.

    Args:
        uniform: in [0, 1), [B, NUMBERS].
    """

    def __init__(self, uniform: Float[Tensor, "batch numbers"]):
        self._columns = iter(uniform.unbind(1))

    def between(self, low: float, high: float) -> Float[Tensor, "batch 1 1"]:
        """Uniform between the two."""
        return (low + (high - low) * next(self._columns))[:, None, None]

    def log_between(self, low: float, high: float) -> Float[Tensor, "batch 1 1"]:
        """Between the two, uniform on a logarithmic scale."""
        return self.between(log(low), log(high)).exp()

    def either(self, low: float, high: float) -> Float[Tensor, "batch 1 1"]:
        """Between the two, below zero or above it."""
        sign = torch.where(self.between(0.0, 1.0) < 0.5, -1.0, 1.0)
        return sign * self.between(low, high)


@dataclass(frozen=True)
class Frame:
    """Distances of pixels from a drawn point, in the directions of a drawn angle; the image's side is 1."""

    along: Float[Tensor, "batch height width"]
    across: Float[Tensor, "batch height width"]
    angle: Float[Tensor, "batch 1 1"]
    """Of `along`, in radians, from the right clockwise."""

    def rectangle(self, width: Tensor, height: Tensor) -> Cover:
        """Around the point, so long along and across."""
        inside = (self.along.abs() < width / 2) & (self.across.abs() < height / 2)
        return inside.to(self.along.dtype)

    def step(self, by: Tensor) -> tuple[Tensor, Tensor]:
        """How far to the right and down one comes who goes so far along."""
        return by * self.angle.cos(), by * self.angle.sin()

    def turned_by(self, angle: Tensor) -> tuple[Tensor, Tensor]:
        """How far each pixel moves, along and across, when the frame is turned by an angle, in radians."""
        along = self.along * angle.cos() - self.across * angle.sin()
        across = self.along * angle.sin() + self.across * angle.cos()
        return along - self.along, across - self.across

    @classmethod
    def draw(cls, side: int, drawn: Drawn, turned: bool = True) -> "Frame":
        """A point at least an eighth of the side from the edges."""
        x, y = drawn.between(1 / 8, 7 / 8), drawn.between(1 / 8, 7 / 8)
        centres = (torch.arange(side, device=x.device) + 0.5) / side
        angle = drawn.between(0.0, 2 * pi) if turned else torch.zeros_like(x)
        right, down = centres[None, None, :] - x, centres[None, :, None] - y
        return cls(
            right * angle.cos() + down * angle.sin(),
            down * angle.cos() - right * angle.sin(),
            angle,
        )


def within(distance: Tensor, limit: Tensor, side: int) -> Cover:
    """1 below the limit, 0 above it, and between the two within a pixel."""
    return ((limit - distance) * side + 0.5).clamp(0, 1)


def spot(images: Images, drawn: Drawn) -> tuple[Frame, Cover]:
    """A round or long spot with a soft edge, and how much of each pixel it covers."""
    frame = Frame.draw(images.shape[2], drawn, turned=False)
    radius = drawn.log_between(0.08, 0.3)
    other = radius * drawn.log_between(0.45, 2.2)
    distance = ((frame.along / radius).square() + (frame.across / other).square()).sqrt()
    return frame, ((1 - distance) / drawn.between(0.1, 0.6) + 0.5).clamp(0, 1)


def coarse(images: Images, pixels: int) -> Images:
    """Without what is finer than so many pixels."""
    side = images.shape[2]
    small = F.interpolate(images, size=(max(1, side // pixels),) * 2, mode="area")
    return F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)


def covered(images: Images, cover: Cover, other: Images) -> Images:
    """The other images where they cover these."""
    return torch.lerp(images, other, cover[:, None].to(images.dtype))


def recoloured(images: Images, drawn: Drawn) -> Images:
    """In other brightness and contrast."""
    mean = images.mean(dim=(2, 3), keepdim=True)
    return mean + (images - mean) * drawn.between(0.8, 1.2)[:, None] + drawn.between(-0.3, 0.3)[:, None]


def from_elsewhere(images: Images, drawn: Drawn) -> Images:
    """The images, each moved by a drawn number of rows and columns; see `windows`."""
    side = images.shape[2]
    corner = torch.cat([drawn.between(0.0, float(side)).flatten(1) for _ in range(2)], dim=1).long()
    return windows(images, side, corner)


def moved(images: Images, right: Tensor, down: Tensor) -> Images:
    """Each pixel taken from so far to the right and below, [B, H, W]; the image's side is 1, and its mirror
    image goes on at each edge.
    """
    side = images.shape[2]
    at = (torch.arange(side, device=images.device) + 0.5) * (2 / side) - 1
    grid = torch.stack([at[None, None, :] + 2 * right, at[None, :, None] + 2 * down], dim=3)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
