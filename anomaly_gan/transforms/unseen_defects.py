"""Small defects that no method learns from, to validate by: unlike those of `transforms.defects`.

A method that has learned to see the drawn defects themselves would be chosen for that alone.
"""

from collections.abc import Callable

import torch

from anomaly_gan.transforms.drawing import Drawn, Frame, coarse, covered, moved, spot
from anomaly_gan.types import Images


def mirrored(images: Images, drawn: Drawn) -> Images:
    """A rectangle, left and right exchanged."""
    frame = Frame.draw(images.shape[2], drawn, turned=False)
    width, height = drawn.between(0.1, 0.3), drawn.between(0.1, 0.3)
    other = moved(images, -2 * frame.along, torch.zeros_like(frame.across))
    return covered(images, frame.rectangle(width, height), other)


def faulted(images: Images, drawn: Drawn) -> Images:
    """Half a disc, moved along its straight edge."""
    frame = Frame.draw(images.shape[2], drawn)
    radius, by = drawn.between(0.1, 0.3), drawn.either(0.03, 0.12)
    half = (frame.along.hypot(frame.across) < radius) & (frame.across > 0)
    right, down = frame.step(by)
    return moved(images, half * right, half * down)


def exchanged(images: Images, drawn: Drawn) -> Images:
    """Two rectangles, each in the other's place; where they meet, the first is in the second's."""
    side = images.shape[2]
    here, there = (Frame.draw(side, drawn, turned=False) for _ in range(2))
    width, height = drawn.between(0.08, 0.25), drawn.between(0.08, 0.25)
    right, down = here.along - there.along, here.across - there.across
    made = covered(images, there.rectangle(width, height), moved(images, -right, -down))
    return covered(made, here.rectangle(width, height), moved(images, right, down))


def filled(images: Images, drawn: Drawn) -> Images:
    """A triangle of one colour, that of the image's mean or darker or brighter."""
    frame = Frame.draw(images.shape[2], drawn)
    size = drawn.log_between(0.04, 0.2)
    cover = (frame.along > -size / 2) & (frame.along + 2 * frame.across.abs() < size)
    mean = images.mean(dim=(2, 3), keepdim=True) + drawn.either(0.0, 0.25)[:, None]
    return covered(images, cover.to(images.dtype), mean.expand_as(images))


def stretched(images: Images, drawn: Drawn) -> Images:
    """A spot made larger or smaller, less towards its edge."""
    frame, cover = spot(images, drawn)
    factor = cover * drawn.either(0.2, 0.6)
    return moved(images, frame.along * factor, frame.across * factor)


def blank(images: Images, drawn: Drawn) -> Images:
    """A spot of which the coarsest alone is left."""
    _, cover = spot(images, drawn)
    return covered(images, cover, coarse(images, max(2, images.shape[2] // 6)))


KINDS: dict[str, Callable[[Images, Drawn], Images]] = {
    "mirrored": mirrored,
    "faulted": faulted,
    "exchanged": exchanged,
    "filled": filled,
    "stretched": stretched,
    "blank": blank,
}
