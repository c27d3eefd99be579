"""Small defects, drawn anew for each image, as shifts: what F learns to tell from a flawless surface."""

from collections.abc import Callable, Sequence
from math import pi

import torch
from torch import Tensor

from anomaly_gan.errors import UserError, nearest
from anomaly_gan.randomness import RowRng, make_rng
from anomaly_gan.transforms.drawing import (
    NUMBERS,
    Drawn,
    Frame,
    coarse,
    covered,
    from_elsewhere,
    moved,
    recoloured,
    spot,
    within,
)
from anomaly_gan.transforms.shifts import Shifts, Views
from anomaly_gan.types import Images


def pasted(images: Images, drawn: Drawn) -> Images:
    """A rectangle from elsewhere in the same image, in other brightness and contrast (CutPaste)."""
    frame = Frame.draw(images.shape[2], drawn, turned=False)
    area, ratio = drawn.between(0.02, 0.15), drawn.log_between(0.3, 3.3)
    width, height = (area * ratio).sqrt(), (area / ratio).sqrt()
    return covered(images, frame.rectangle(width, height), recoloured(from_elsewhere(images, drawn), drawn))


def scarred(images: Images, drawn: Drawn) -> Images:
    """The same with a thin strip at any angle (CutPaste's scar)."""
    frame = Frame.draw(images.shape[2], drawn)
    width, length = drawn.between(0.02, 0.11), drawn.between(0.12, 0.45)
    return covered(images, frame.rectangle(length, width), recoloured(from_elsewhere(images, drawn), drawn))


def cracked(images: Images, drawn: Drawn) -> Images:
    """A thin, bent, wavy line, darker or brighter than what lies beneath."""
    side = images.shape[2]
    frame = Frame.draw(side, drawn)
    length, width = drawn.between(0.2, 1.1), drawn.log_between(0.01, 0.06)
    bend, waves = drawn.between(-1.4, 1.4), drawn.between(0.0, 0.024)
    phase, pace = drawn.between(0.0, 2 * pi), drawn.between(6.0, 40.0)
    across = frame.across + bend * frame.along.square() + waves * (pace * frame.along + phase).sin()
    cover = within(frame.along.abs(), length / 2, side) * within(across.abs(), width / 2, side)
    return covered(images, cover, images + drawn.either(0.05, 0.3)[:, None])


def shaded(images: Images, drawn: Drawn) -> Images:
    """Another brightness and contrast on one side of a line, sharp or soft."""
    frame = Frame.draw(images.shape[2], drawn)
    cover = (0.5 + frame.along / drawn.log_between(0.015, 0.15)).clamp(0, 1)
    mean = images.mean(dim=(2, 3), keepdim=True)
    other = mean + (images - mean) * drawn.between(0.7, 1.3)[:, None] + drawn.either(0.03, 0.2)[:, None]
    return covered(images, cover, other)


def blotted(images: Images, drawn: Drawn) -> Images:
    """A spot, round or long, sharp or soft, darker or brighter than what lies beneath."""
    frame = Frame.draw(images.shape[2], drawn)
    radius = drawn.log_between(0.023, 0.22)
    other = radius * drawn.log_between(0.37, 2.7)
    distance = ((frame.along / radius).square() + (frame.across / other).square()).sqrt()
    cover = ((1 - distance) / drawn.between(0.1, 1.0) + 0.5).clamp(0, 1)
    return covered(images, cover, images + drawn.either(0.05, 0.3)[:, None])


def smudged(images: Images, drawn: Drawn) -> Images:
    """A spot without sharpness."""
    _, cover = spot(images, drawn)
    return covered(images, cover * drawn.between(0.4, 1.0), coarse(images, 3))


def roughened(images: Images, drawn: Drawn) -> Images:
    """A spot with the grain of another place in the image, twice to five times as strong."""
    _, cover = spot(images, drawn)
    other = from_elsewhere(images, drawn)
    return images + cover[:, None] * drawn.between(2.0, 5.0)[:, None] * (other - coarse(other, 7))


def twisted(images: Images, drawn: Drawn) -> Images:
    """A spot turned about its middle by up to half a turn, less towards its edge."""
    frame, cover = spot(images, drawn)
    along, across = frame.turned_by(cover * drawn.either(0.5, 2.5))
    return moved(images, along, across)


def dented(images: Images, drawn: Drawn) -> Images:
    """A spot that light falls on from one side: brighter on it, darker on the other."""
    frame, cover = spot(images, drawn)
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
