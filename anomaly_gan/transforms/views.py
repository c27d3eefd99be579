"""The views that the feature extractor sees: flip, then shift, then T."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from anomaly_gan.randomness import RowRng, make_rng
from anomaly_gan.transforms.augment import Augment, AugmentDraws, repeat_rows
from anomaly_gan.transforms.color import per_pixel
from anomaly_gan.transforms.geometry import Resized
from anomaly_gan.transforms.shifts import Shifts, Views
from anomaly_gan.types import Images, Labels

SeenViews = Float[Tensor, "views channels view_height view_width"]
"""Views, of the size that T gives them."""


class ScoringDraw(nn.Module):
    """A draw of the scoring ensemble: one line for each shift, the same for every image.

    A module, so that it moves to a device with the scorer, and once; it is in no file, for it is drawn from
    the configuration.

    Args:
        flip: whether the image is flipped before the shift.
        augment: T after it.
        blurs: whether a blur is drawn for any shift; else no time is spent on it.
    """

    flip: Tensor

    def __init__(self, flip: Bool[Tensor, " shifts"], augment: AugmentDraws, blurs: bool):
        super().__init__()
        self.blurs = blurs
        self.register_buffer("flip", flip, persistent=False)
        for name, value in vars(augment).items():
            self.register_buffer(name, value, persistent=False)

    @property
    def augment(self) -> AugmentDraws:
        """T after the shift, on the module's device."""
        return AugmentDraws(**{field.name: getattr(self, field.name) for field in fields(AugmentDraws)})


class ShiftedViews:
    """Shifted views of images, for training and for scoring; K shifts, square images in [0, 1].

    Args:
        shifts: the shifts S.
        augment: the augmentation T.
        scoring_crop_scale: the fixed area of T's crop in `scoring_draw`, as a fraction of the image's; 0.54
            in CSI's released settings.
        first_draw: what draw 0 of `scoring_draw` is: the middle of T ("centre") or a draw like all others
            ("random").
    """

    def __init__(
        self,
        shifts: Shifts,
        augment: Augment,
        scoring_crop_scale: float = 0.54,
        first_draw: Literal["centre", "random"] = "centre",
    ):
        self.shifts = shifts
        self.augment = augment
        self.first_draw = first_draw
        self.apply: Callable[[Images, AugmentDraws], Resized] = augment
        self.scoring_augment = augment.with_crop_scale(scoring_crop_scale)

    def compile(self) -> None:
        """From now on T is compiled at its first use in training, once for each size of batch."""
        self.apply = torch.compile(self.augment.__call__, dynamic=False)

    def training(self, images: Images, rng: RowRng) -> SeenViews:
        """Two views of every shift of every image, flip and T drawn for each: [B, ...] -> [2*K*B, ...].

        Rows: the first view's K*B (shift-major), then the second view's. A flip is one draw per image and
        view, shared by its shifts, as in CSI. `rng` is on the images' device.
        """
        first, second = (self.shifts.drawn(_flip_half(images, rng), rng) for _ in range(2))
        views = torch.cat([first, second])
        return self.apply(views, self.augment.draw(len(views), rng))

    def training_labels(self, batch: int, device: torch.device | str) -> Labels:
        """The shift of each row of `training` for `batch` images: [2*K*B]."""
        return self.shifts.labels(batch, device).repeat(2)

    def plain(self, images: Images) -> Views:
        """The shifts alone: [B, ...] -> [K*B, ...], shift-major."""
        return self.shifts(images)

    def scoring_draw(self, draw: int, seed: int) -> ScoringDraw:
        """Draw number `draw` of the scoring ensemble, from (seed, draw) alone.

        Draw 0 is the middle of T, unflipped: a score of one draw then does not hang on a lucky or unlucky
        one (docs/scoring.md has what that costs). In the others each shift has one flip and one T.
        """
        shifts = self.shifts.count
        if draw == 0 and self.first_draw == "centre":
            centre = self.scoring_augment.centre(shifts)
            return ScoringDraw(torch.zeros(shifts, dtype=torch.bool), centre, blurs=False)
        rng = make_rng("cpu", seed, "ensemble", draw)
        flip = torch.rand(shifts, generator=rng) < 0.5
        draws = self.scoring_augment.draw(shifts, RowRng(rng))
        return ScoringDraw(flip, draws, bool(draws.blur.any()))

    def drawn(self, images: Images, draw: ScoringDraw) -> Views:
        """`images` under a draw of the scoring ensemble: [B, ...] -> [K*B, ...], shift-major.

        Every image is treated alike, so that a view depends neither on the rest of the batch nor on the
        device, which images and draw share. (CSI's released code draws per image from one seed, so that its
        scores depend on an image's place in the batch.)
        """
        batch = images.shape[0]  # len() would fix it in an export
        flip = repeat_rows(draw.flip, batch)
        views = torch.where(per_pixel(flip), self.shifts(images.flip(3)), self.shifts(images))
        augment = self.scoring_augment if draw.blurs else replace(self.scoring_augment, blur=False)
        return augment(views, draw.augment.repeat_rows(batch))


def _flip_half(images: Images, rng: RowRng) -> Images:
    flip: Tensor = rng.uniform(len(images), 1) < 0.5
    return torch.where(per_pixel(flip), images.flip(3), images)
