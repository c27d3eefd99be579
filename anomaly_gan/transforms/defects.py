"""Small defects, drawn anew for each image, as shifts: what F learns to tell from a flawless surface."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log, pi

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from anomaly_gan.errors import UserError, nearest
from anomaly_gan.randomness import RowRng, make_rng
from anomaly_gan.transforms.crops import windows
from anomaly_gan.transforms.shifts import Shifts, Views
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
        )


def pasted(images: Images, drawn: Drawn) -> Images:
    """A rectangle from elsewhere in the same image, in other brightness and contrast (CutPaste)."""
    frame = Frame.draw(images.shape[2], drawn, turned=False)
    area, ratio = drawn.between(0.02, 0.15), drawn.log_between(0.3, 3.3)
    width, height = (area * ratio).sqrt(), (area / ratio).sqrt()
    cover = ((frame.along.abs() < width / 2) & (frame.across.abs() < height / 2)).to(images.dtype)
    return _covered(images, cover, _recoloured(_from_elsewhere(images, drawn), drawn))


def scarred(images: Images, drawn: Drawn) -> Images:
    """The same with a thin strip at any angle (CutPaste's scar)."""
    frame = Frame.draw(images.shape[2], drawn)
    width, length = drawn.between(0.02, 0.11), drawn.between(0.12, 0.45)
    cover = ((frame.along.abs() < length / 2) & (frame.across.abs() < width / 2)).to(images.dtype)
    return _covered(images, cover, _recoloured(_from_elsewhere(images, drawn), drawn))


def cracked(images: Images, drawn: Drawn) -> Images:
    """A thin, bent, wavy line, darker or brighter than what lies beneath."""
    side = images.shape[2]
    frame = Frame.draw(side, drawn)
    length, width = drawn.between(0.2, 1.1), drawn.log_between(0.01, 0.06)
    bend, waves = drawn.between(-1.4, 1.4), drawn.between(0.0, 0.024)
    phase, pace = drawn.between(0.0, 2 * pi), drawn.between(6.0, 40.0)
    across = frame.across + bend * frame.along.square() + waves * (pace * frame.along + phase).sin()
    cover = _within(frame.along.abs(), length / 2, side) * _within(across.abs(), width / 2, side)
    return _covered(images, cover, images + drawn.either(0.05, 0.3)[:, None])


def shaded(images: Images, drawn: Drawn) -> Images:
    """Another brightness and contrast on one side of a line, sharp or soft."""
    frame = Frame.draw(images.shape[2], drawn)
    cover = (0.5 + frame.along / drawn.log_between(0.015, 0.15)).clamp(0, 1)
    mean = images.mean(dim=(2, 3), keepdim=True)
    other = mean + (images - mean) * drawn.between(0.7, 1.3)[:, None] + drawn.either(0.03, 0.2)[:, None]
    return _covered(images, cover, other)


def blotted(images: Images, drawn: Drawn) -> Images:
    """A spot, round or long, sharp or soft, darker or brighter than what lies beneath."""
    frame = Frame.draw(images.shape[2], drawn)
    radius = drawn.log_between(0.023, 0.22)
    other = radius * drawn.log_between(0.37, 2.7)
    distance = ((frame.along / radius).square() + (frame.across / other).square()).sqrt()
    cover = ((1 - distance) / drawn.between(0.1, 1.0) + 0.5).clamp(0, 1)
    return _covered(images, cover, images + drawn.either(0.05, 0.3)[:, None])


def smudged(images: Images, drawn: Drawn) -> Images:
    """A spot without sharpness."""
    _, cover = _spot(images, drawn)
    return _covered(images, cover * drawn.between(0.4, 1.0), _coarse(images, 3))


def roughened(images: Images, drawn: Drawn) -> Images:
    """A spot with the grain of another place in the image, twice to five times as strong."""
    _, cover = _spot(images, drawn)
    other = _from_elsewhere(images, drawn)
    return images + cover[:, None] * drawn.between(2.0, 5.0)[:, None] * (other - _coarse(other, 7))


def twisted(images: Images, drawn: Drawn) -> Images:
    """A spot turned about its middle by up to half a turn, less towards its edge."""
    frame, cover = _spot(images, drawn)
    along, across = frame.turned_by(cover * drawn.either(0.5, 2.5))
    side = images.shape[2]
    at = (torch.arange(side, device=images.device) + 0.5) * (2 / side) - 1
    grid = torch.stack([at[None, None, :] + 2 * along, at[None, :, None] + 2 * across], dim=3)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def dented(images: Images, drawn: Drawn) -> Images:
    """A spot that light falls on from one side: brighter on it, darker on the other."""
    frame, cover = _spot(images, drawn)
    angle = drawn.between(0.0, 2 * pi)
    slope = (frame.along * angle.cos() + frame.across * angle.sin()) * drawn.between(0.3, 2.0)
    return images + (cover * slope)[:, None]


KINDS: dict[str, Callable[[Images, Drawn], Images]] = {
    "pasted": pasted,
    "scarred": scarred,
    "cracked": cracked,
    "shaded": shaded,
    "blotted": blotted,
    "smudged": smudged,
    "roughened": roughened,
    "twisted": twisted,
    "dented": dented,
}


class Defects(Shifts):
    """The image as it is, and with one defect of each kind.

    The first two are those of Li et al., "CutPaste: Self-Supervised Learning for Anomaly Detection and
    Localization" (2021).

    Args:
        kinds: keys of `KINDS`.
    """

    def __init__(self, kinds: Sequence[str]):
        for kind in kinds:
            if kind not in KINDS:
                raise UserError(f"method.views.shifts.kinds: {kind}: {nearest(kind, list(KINDS))}")
        self.kinds = tuple(kinds)
        self.count = 1 + len(self.kinds)

    def __call__(self, images: Images) -> Views:
        """One defect of each kind, the same in every image: what a score may look at."""
        rng = make_rng("cpu", 0, "defects")
        uniform = torch.rand(len(self.kinds), 1, NUMBERS, generator=rng).to(images)
        return self._views(images, [numbers.expand(images.shape[0], -1) for numbers in uniform])

    def drawn(self, images: Images, rng: RowRng) -> Views:
        return self._views(images, [rng.uniform(len(images), NUMBERS) for _ in self.kinds])

    def _views(self, images: Images, uniform: list[Tensor]) -> Views:
        made = [
            KINDS[kind](images, Drawn(of_kind)) for kind, of_kind in zip(self.kinds, uniform, strict=True)
        ]
        return torch.cat([images, *made]).clamp(0, 1)


def _within(distance: Tensor, limit: Tensor, side: int) -> Cover:
    """1 below the limit, 0 above it, and between the two within a pixel."""
    return ((limit - distance) * side + 0.5).clamp(0, 1)


def _spot(images: Images, drawn: Drawn) -> tuple[Frame, Cover]:
    """A round or long spot with a soft edge, and how much of each pixel it covers."""
    frame = Frame.draw(images.shape[2], drawn, turned=False)
    radius = drawn.log_between(0.08, 0.3)
    other = radius * drawn.log_between(0.45, 2.2)
    distance = ((frame.along / radius).square() + (frame.across / other).square()).sqrt()
    return frame, ((1 - distance) / drawn.between(0.1, 0.6) + 0.5).clamp(0, 1)


def _coarse(images: Images, pixels: int) -> Images:
    """Without what is finer than so many pixels."""
    side = images.shape[2]
    small = F.interpolate(images, size=(max(1, side // pixels),) * 2, mode="area")
    return F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)


def _covered(images: Images, cover: Cover, other: Images) -> Images:
    return torch.lerp(images, other, cover[:, None].to(images.dtype))


def _recoloured(images: Images, drawn: Drawn) -> Images:
    mean = images.mean(dim=(2, 3), keepdim=True)
    return mean + (images - mean) * drawn.between(0.8, 1.2)[:, None] + drawn.between(-0.3, 0.3)[:, None]


def _from_elsewhere(images: Images, drawn: Drawn) -> Images:
    """The images, each moved by a drawn number of rows and columns; see `windows`."""
    side = images.shape[2]
    corner = torch.cat([drawn.between(0.0, float(side)).flatten(1) for _ in range(2)], dim=1).long()
    return windows(images, side, corner)
